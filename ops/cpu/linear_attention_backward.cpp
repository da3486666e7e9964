// ops/cpu/linear_attention_backward.cpp: gradients, in three loops (formulas in ops/linear_attention.h): what each
// chunk adds to the gradient of the state before it, these gradients from the end to the beginning, and dq, dk, dv and
// dg of every chunk.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/linear_attention_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/decay_tile-inl.h"
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
  Scratch<T> scratch(kTile * (width + row) + ChunkDecay<T>::size(p));
  T *queries = scratch.take(kTile * width), *upstream = scratch.take(kTile * row);
  plain_rows(a.q, chunk, p.width, width, queries);
  ChunkDecay<T>(p, a.log_decay, chunk, scratch).since_start(scale, queries);
  plain_rows(a.dy, chunk, p.value_width, row, upstream);
  T* dstate = state_at(p, a.dstates, chunk.b, chunk.h, number);
  whole_product<Start::zero>(Product<T>{queries, 1, width, upstream, row, dstate, row}, p.width, row, chunk.count);
}

/// The memory of a chunk's gradients.
template <class T>
struct GradientTile {
  T *q, *k, *kept, *v, *dy;  // rows; what the end keeps of k
  T* transposed;             // of queries, upstream rows or states
  T *pairs, *slopes;         // P and dP
  T *dq, *dk, *dv;           // rows

  static std::int64_t size(const LinearAttentionProblem& p) {
    const std::int64_t width = padded<T>(p.width), row = p.state_row(), larger = std::max(p.width, p.value_width);
    return kTile * (5 * width + 3 * row + larger + 2 * kTile);
  }
  GradientTile(Scratch<T>& s, const LinearAttentionProblem& p) {
    const std::int64_t width = padded<T>(p.width), row = p.state_row();
    for (T** rows : {&q, &k, &kept, &dq, &dk}) *rows = s.take(kTile * width);
    for (T** rows : {&v, &dy, &dv}) *rows = s.take(kTile * row);
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
  Scratch<T> scratch(GradientTile<T>::size(p) + ChunkDecay<T>::size(p));
  const GradientTile<T> t(scratch, p);
  const ChunkDecay<T> decay(p, a.log_decay, chunk, scratch);
  const PairMask& mask = decay.mask();
  const T* state = state_at(p, a.states, chunk.b, chunk.h, number);
  const T* dstate = state_at(p, static_cast<const T*>(a.dstates), chunk.b, chunk.h, number + 1);
  plain_rows(a.q, chunk, p.width, width, t.q);
  plain_rows(a.k, chunk, p.width, width, t.k);
  std::copy_n(t.k, count * width, t.kept);
  plain_rows(a.v, chunk, p.value_width, row, t.v);
  plain_rows(a.dy, chunk, p.value_width, row, t.dy);
  // dV = s Pᵀ dY + diag(e^(b_C - b)) K dS'
  decay.pairs(scale, t.q, t.k, t.transposed, t.pairs);
  decay.until_end(t.kept);
  whole_product<Start::zero>(Product<T>{t.kept, width, 1, dstate, row, t.dv, row}, count, row, p.width);
  sum_over_lanes<Start::keep>(Product<T>{t.pairs, kTile, 1, t.dy, row, t.dv, row}, mask, row);
  // dQ = s (diag(e^b) dY Sᵀ + dP K),  dK = diag(e^(b_C - b)) V dS'ᵀ + s dPᵀ Q
  times_transposed(p, t.dy, count, state, t.transposed, t.dq);
  decay.since_start(scale, t.dq);
  times_transposed(p, t.v, count, dstate, t.transposed, t.dk);
  decay.until_end(t.dk);
  transpose_tile(t.dy, row, count, p.value_width, T(1), t.transposed);
  product<Start::zero>(Product<T>{t.v, row, 1, t.transposed, kTile, t.slopes, kTile}, 0, count,
                       mask.pairs<T>(p.value_width));
  decay.add_gradients(scale, t.slopes, t.q, t.k, t.dq, t.dk);
  if (a.dlog_decay)
    decay_gradient(p, chunk, state_at(p, a.states, chunk.b, chunk.h, number + 1), dstate, t.q, t.dq, t.k,
                   static_cast<const T*>(nullptr), t.dk, a.dlog_decay);
  store_rows(chunk, t.dq, width, p.width, a.dq);
  store_rows(chunk, t.dk, width, p.width, a.dk);
  store_rows(chunk, t.dv, row, p.value_width, a.dv);
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
