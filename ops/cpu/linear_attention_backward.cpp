// ops/cpu/linear_attention_backward.cpp: gradients, in four loops (formulas in ops/linear_attention.h): what each chunk
// adds to the gradient of the state before it, these gradients from the end to the beginning, dq, dk and dv of every
// chunk, and where the decay wants one, its gradient.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/linear_attention_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/linear_tile-inl.h"
#include "ops/cpu/versions.h"
#include "ops/linear_attention.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// s (diag(e^b) Q)ᵀ dY, into the place of the gradient of the state before the chunk.
template <class T>
void add_chunk(const LinearAttentionBackward::Arguments<T>& a, const LinearChunk<T>& chunk, std::int64_t number) {
  const LinearAttentionProblem& p = a.problem;
  const T scale = static_cast<T>(p.scale);
  const std::int64_t width = padded<T>(p.width), row = p.state_row();
  Scratch<T> scratch(kTile * (width + row));
  T *queries = scratch.take(kTile * width), *upstream = scratch.take(kTile * row);
  scaled_rows(a.q, chunk, p.width, width, queries, [&](std::int64_t i) { return scale * chunk.kept_of_state(i); });
  plain_rows(a.dy, chunk, p.value_width, row, upstream);
  T* dstate = state_at(p, a.dstates, chunk.b, chunk.h, number);
  whole_product<Start::zero>(Product<T>{queries, 1, width, upstream, row, dstate, row}, p.width, row, chunk.count);
}

/// The memory of a chunk's gradients.
template <class T>
struct GradientTile {
  T *q, *k, *v, *dy, *decayed;  // rows
  T* transposed;                // of queries, upstream rows or states
  T *pairs, *slopes;            // P and dP
  T *dq, *dk, *dv;              // rows

  static std::int64_t size(const LinearAttentionProblem& p) {
    const std::int64_t width = padded<T>(p.width), row = p.state_row(), larger = std::max(p.width, p.value_width);
    return kTile * (5 * width + 3 * row + std::max(width, row) + larger + 2 * kTile);
  }
  GradientTile(Scratch<T>& s, const LinearAttentionProblem& p) {
    const std::int64_t width = padded<T>(p.width), row = p.state_row();
    for (T** rows : {&q, &k, &dq, &dk}) *rows = s.take(kTile * width);
    for (T** rows : {&v, &dy, &dv}) *rows = s.take(kTile * row);
    decayed = s.take(kTile * std::max(width, row));
    transposed = s.take(kTile * std::max(p.width, p.value_width));
    pairs = s.take(kTile * kTile);
    slopes = s.take(kTile * kTile);
  }
};

template <class T>
void gradients(const LinearAttentionBackward::Arguments<T>& a, const LinearChunk<T>& chunk, std::int64_t number) {
  const LinearAttentionProblem& p = a.problem;
  const T scale = static_cast<T>(p.scale);
  const std::int64_t width = padded<T>(p.width), row = p.state_row(), count = chunk.count;
  Scratch<T> scratch(GradientTile<T>::size(p));
  const GradientTile<T> t(scratch, p);
  const PairMask mask = chunk.mask();
  const T* state = state_at(p, a.states, chunk.b, chunk.h, number);
  const T* dstate = state_at(p, a.dstates, chunk.b, chunk.h, number + 1);
  plain_rows(a.q, chunk, p.width, width, t.q);
  plain_rows(a.k, chunk, p.width, width, t.k);
  plain_rows(a.v, chunk, p.value_width, row, t.v);
  plain_rows(a.dy, chunk, p.value_width, row, t.dy);
  // P and dP, both with s and Γ, [key][query]
  transpose_tile(t.q, width, count, p.width, T(1), t.transposed);
  product<Start::zero>(Product<T>{t.k, width, 1, t.transposed, kTile, t.pairs, kTile}, 0, count,
                       mask.pairs<T>(p.width));
  chunk.weigh(scale, t.pairs);
  transpose_tile(t.dy, row, count, p.value_width, T(1), t.transposed);
  product<Start::zero>(Product<T>{t.v, row, 1, t.transposed, kTile, t.slopes, kTile}, 0, count,
                       mask.pairs<T>(p.value_width));
  chunk.weigh(scale, t.slopes);
  // dV = Pᵀ dY + diag(e^(b_C - b)) K dS'
  scaled_rows(a.k, chunk, p.width, width, t.decayed, [&](std::int64_t i) { return chunk.kept_at_end(i); });
  whole_product<Start::zero>(Product<T>{t.decayed, width, 1, dstate, row, t.dv, row}, count, row, p.width);
  sum_over_lanes<Start::keep>(Product<T>{t.pairs, kTile, 1, t.dy, row, t.dv, row}, mask, row);
  // dQ = s diag(e^b) dY Sᵀ + dP K
  scaled_rows(a.dy, chunk, p.value_width, row, t.decayed,
              [&](std::int64_t i) { return scale * chunk.kept_of_state(i); });
  times_transposed(p, t.decayed, count, state, t.transposed, t.dq);
  sum_over_rows<Start::keep>(Product<T>{t.slopes, 1, kTile, t.k, width, t.dq, width}, mask, width);
  // dK = diag(e^(b_C - b)) V dS'ᵀ + dPᵀ Q
  scaled_rows(a.v, chunk, p.value_width, row, t.decayed, [&](std::int64_t i) { return chunk.kept_at_end(i); });
  times_transposed(p, t.decayed, count, dstate, t.transposed, t.dk);
  sum_over_lanes<Start::keep>(Product<T>{t.slopes, kTile, 1, t.q, width, t.dk, width}, mask, width);
  store_rows(chunk, t.dq, width, p.width, a.dq);
  store_rows(chunk, t.dk, width, p.width, a.dk);
  store_rows(chunk, t.dv, row, p.value_width, a.dv);
}

/// dg_t = Σ_{l>=t} (q_l·dq_l - k_l·dk_l) + ⟨S_T, dS_T⟩
template <class T>
void decay_gradient(const LinearAttentionBackward::Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  cpu::parallel_for(p.batch * p.heads, tasks_per_block(2 * p.positions * p.width),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t head = begin; head < end; ++head) {
                        const std::int64_t b = head / p.heads, h = head % p.heads;
                        T sum = dot(state_at(p, a.states, b, h, p.chunks()),
                                    static_cast<const T*>(state_at(p, a.dstates, b, h, p.chunks())), p.state_size());
                        for (std::int64_t t = p.positions - 1; t >= 0; --t) {
                          sum += dot(a.q.at(b, h, t), static_cast<const T*>(a.dq.at(b, h, t)), p.width) -
                                 dot(a.k.at(b, h, t), static_cast<const T*>(a.dk.at(b, h, t)), p.width);
                          a.dlog_decay[head * p.positions + t] = sum;
                        }
                      }
                    });
}

template <class T>
void backward(const LinearAttentionBackward::Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t products = kTile * p.width * p.value_width;
  set_state(p, a.dstate, p.chunks(), a.dstates);
  for_linear_chunks(p, a.log_decay, products,
                    [&](const LinearChunk<T>& chunk, std::int64_t number) { add_chunk(a, chunk, number); });
  sum_over_chunks(p, a.log_decay, true, a.dstates, [](T* before, const T* after, T kept, std::int64_t count) {
    add_scaled(kept, after, before, count);
  });
  for_linear_chunks(p, a.log_decay, 4 * products,
                    [&](const LinearChunk<T>& chunk, std::int64_t number) { gradients(a, chunk, number); });
  if (a.dlog_decay) decay_gradient(a);
}

}  // namespace

Versions<LinearAttentionBackward> linear_attention_backward_versions() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(linear_attention_backward_versions);

template <class T>
void LinearAttentionBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(linear_attention_backward_versions)()(a);
}
template void LinearAttentionBackward::cpu(const Arguments<float>&);
template void LinearAttentionBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
