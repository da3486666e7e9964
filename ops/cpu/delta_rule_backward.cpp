// ops/cpu/delta_rule_backward.cpp: gradients, in three loops (formulas in ops/delta_rule.h): what each chunk's results
// add to dU and to the gradient of the state before it, R and these gradients from the last chunk to the first, and all
// others of every chunk.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/delta_rule_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/delta_tile-inl.h"
#include "ops/cpu/versions.h"
#include "ops/delta_rule.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// s (Q Kᵀ ∘ Γ)ᵀ dY, into the place of dU, and s (diag(e^b) Q)ᵀ dY, into that of the gradient of the state before.
template <class T>
void add_results(const DeltaRuleBackward::Arguments<T>& a, const LinearChunk<T>& chunk, std::int64_t number) {
  const LinearAttentionProblem& p = a.problem;
  const T scale = static_cast<T>(p.scale);
  const std::int64_t width = padded<T>(p.width), row = p.state_row();
  Scratch<T> scratch(kTile * (2 * width + p.width + row + kTile) + ChunkDecay<T>::size(p));
  T *queries = scratch.take(kTile * width), *keys = scratch.take(kTile * width);
  T *upstream = scratch.take(kTile * row), *transposed = scratch.take(kTile * p.width);
  T* pairs = scratch.take(kTile * kTile);
  plain_rows(a.q, chunk, p.width, width, queries);
  plain_rows(a.k, chunk, p.width, width, keys);
  plain_rows(a.dy, chunk, p.value_width, row, upstream);
  const ChunkDecay<T> decay(p, a.log_decay, chunk, scratch);
  decay.pairs(scale, queries, keys, transposed, pairs);
  T* du = rows_at(p, a.residuals, chunk, number);
  sum_over_lanes<Start::zero>(Product<T>{pairs, kTile, 1, upstream, row, du, row}, decay.mask(), row);
  decay.since_start(scale, queries);
  T* dstate = state_at(p, a.dstates, chunk.b, chunk.h, number);
  whole_product<Start::zero>(Product<T>{queries, 1, width, upstream, row, dstate, row}, p.width, row, chunk.count);
}

/// R and the gradients of the states of one head, for the columns [begin, begin + columns) of V.
template <class T>
void follow_gradients(const DeltaRuleBackward::Arguments<T>& a, std::int64_t head, std::int64_t begin,
                      std::int64_t columns) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t width = padded<T>(p.width), row = p.state_row();
  Scratch<T> all(kTile * (width + columns) + ChunkDecay<T>::size(p));
  for (std::int64_t number = p.chunks() - 1; number >= 0; --number) {
    const LinearChunk<T> chunk(p, a.log_decay, head * p.chunks() + number);
    Scratch<T> scratch = all;
    T *keys = scratch.take(kTile * width), *solved = scratch.take(kTile * columns);
    const ChunkDecay<T> decay(p, a.log_decay, chunk, scratch);
    const T* beta = beta_of(p, a.beta, chunk);
    T* before = state_at(p, a.dstates, chunk.b, chunk.h, number) + begin;
    const T* after = state_at(p, a.dstates, chunk.b, chunk.h, number + 1) + begin;
    T* residuals = rows_at(p, a.residuals, chunk, number) + begin;
    // dU ← dU + diag(e^(b_C - b)) K dS'
    plain_rows(a.k, chunk, p.width, width, keys);
    decay.until_end(keys);
    whole_product<Start::keep>(Product<T>{keys, width, 1, after, row, residuals, row}, chunk.count, columns, p.width);
    // R = (I + A)^-ᵀ dU
    const T* inverse = inverse_at(p, a.inverses, chunk, number);
    sum_over_lanes<Start::zero>(Product<T>{inverse, kTile, 1, residuals, row, solved, columns}, decay.mask(), columns);
    for (std::int64_t i = 0; i < chunk.count; ++i) std::copy_n(solved + i * columns, columns, residuals + i * row);
    // dS ← dS + e^(b_C) dS' - (diag(β e^b) K)ᵀ R
    plain_rows(a.k, chunk, p.width, width, keys);
    decay.since_start(T(-1), keys);
    scale_tile(solved, columns, chunk.count, [&](std::int64_t i) { return beta[i]; });
    decay.add_kept(after, before, row, columns);
    whole_product<Start::keep>(Product<T>{keys, 1, width, solved, columns, before, row}, p.width, columns, chunk.count);
  }
}

/// The memory of a chunk's gradients.
template <class T>
struct DeltaTile {
  T *q, *k, *weighted, *dq, *d, *e;  // rows of K; diag(β) K
  T* dy;                             // rows of V
  T *transposed, *slopes;            // of rows or states; dP, then X

  static std::int64_t size(const LinearAttentionProblem& p) {
    return kTile * (6 * padded<T>(p.width) + p.state_row() + std::max(p.width, p.value_width) + kTile);
  }
  DeltaTile(Scratch<T>& s, const LinearAttentionProblem& p) {
    for (T** rows : {&q, &k, &weighted, &dq, &d, &e}) *rows = s.take(kTile * padded<T>(p.width));
    dy = s.take(kTile * p.state_row());
    transposed = s.take(kTile * std::max(p.width, p.value_width));
    slopes = s.take(kTile * kTile);
  }
};

/// slopes[j][i] = left_j·right_i for j <= i, rows of V.
template <class T>
void value_pairs(const LinearAttentionProblem& p, const PairMask& mask, const T* left, const T* right, T* transposed,
                 T* slopes) {
  const std::int64_t row = p.state_row();
  transpose_tile(right, row, mask.lanes, p.value_width, T(1), transposed);
  product<Start::zero>(Product<T>{left, row, 1, transposed, kTile, slopes, kTile}, 0, mask.rows,
                       mask.pairs<T>(p.value_width));
}

template <class T>
void gradients(const DeltaRuleBackward::Arguments<T>& a, const LinearChunk<T>& chunk, std::int64_t number) {
  const LinearAttentionProblem& p = a.problem;
  const T scale = static_cast<T>(p.scale);
  const std::int64_t width = padded<T>(p.width), row = p.state_row(), count = chunk.count;
  Scratch<T> scratch(DeltaTile<T>::size(p) + ChunkDecay<T>::size(p));
  const DeltaTile<T> t(scratch, p);
  const ChunkDecay<T> decay(p, a.log_decay, chunk, scratch);
  const T *beta = beta_of(p, a.beta, chunk), *updates = rows_at(p, a.updates, chunk, number);
  const T* residuals = rows_at(p, static_cast<const T*>(a.residuals), chunk, number);
  const T* state = state_at(p, a.states, chunk.b, chunk.h, number);
  const T* dstate = state_at(p, static_cast<const T*>(a.dstates), chunk.b, chunk.h, number + 1);
  plain_rows(a.q, chunk, p.width, width, t.q);
  plain_rows(a.k, chunk, p.width, width, t.k);
  scaled_rows(a.k, chunk, p.width, width, t.weighted, [&](std::int64_t i) { return beta[i]; });
  plain_rows(a.dy, chunk, p.value_width, row, t.dy);
  // dQ = s (diag(e^b) dY Sᵀ + dP K),  E = s dPᵀ Q + diag(e^(b_C - b)) U dS'ᵀ + …
  times_transposed(p, t.dy, count, state, t.transposed, t.dq);
  decay.since_start(scale, t.dq);
  times_transposed(p, updates, count, dstate, t.transposed, t.e);
  decay.until_end(t.e);
  value_pairs(p, decay.mask(), updates, t.dy, t.transposed, t.slopes);
  decay.add_gradients(scale, t.slopes, t.q, t.k, t.dq, t.e);
  // D = X K - diag(e^b) R Sᵀ,  E = … + Xᵀ diag(β) K
  times_transposed(p, residuals, count, state, t.transposed, t.d);
  decay.since_start(T(-1), t.d);
  value_pairs(p, decay.mask(), updates, residuals, t.transposed, t.slopes);
  for (std::int64_t j = 0; j < count; ++j) t.slopes[j * kTile + j] = 0;
  decay.add_gradients(T(-1), t.slopes, t.weighted, t.k, t.d, t.e);
  T* dbeta = a.dbeta + (chunk.b * p.heads + chunk.h) * p.positions + chunk.first;
  for (std::int64_t i = 0; i < count; ++i)
    dbeta[i] = dot(residuals + i * row, a.v.at(chunk.b, chunk.h, chunk.first + i), p.value_width) +
               dot(static_cast<const T*>(t.k + i * width), t.d + i * width, width);
  scale_tile(t.d, width, count, [&](std::int64_t i) { return beta[i]; });
  if (a.dlog_decay)
    decay_gradient(p, chunk, state_at(p, a.states, chunk.b, chunk.h, number + 1), dstate, t.q, t.dq, t.k, t.d, t.e,
                   a.dlog_decay);
  for (std::int64_t i = 0; i < count; ++i) add_scaled(T(1), t.d + i * width, t.e + i * width, width);
  store_rows(chunk, t.dq, width, p.width, a.dq);
  store_rows(chunk, t.e, width, p.width, a.dk);
  scaled_rows(chunk_rows(p, static_cast<const T*>(a.residuals)), chunk, p.value_width, row, t.dy,
              [&](std::int64_t i) { return beta[i]; });
  store_rows(chunk, t.dy, row, p.value_width, a.dv);
}

template <class T>
void backward(const DeltaRuleBackward::Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t products = kTile * p.width * p.value_width;
  set_state(p, a.dstate, p.chunks(), a.dstates);
  for_linear_chunks(p, a.log_decay, 2 * products,
                    [&](const LinearChunk<T>& chunk, std::int64_t number) { add_results(a, chunk, number); });
  for_state_columns(p, [&](std::int64_t head, std::int64_t begin, std::int64_t columns) {
    follow_gradients(a, head, begin, columns);
  });
  for_linear_chunks(p, a.log_decay, 6 * products,
                    [&](const LinearChunk<T>& chunk, std::int64_t number) { gradients(a, chunk, number); });
}

}  // namespace

Versions<DeltaRuleBackward> delta_rule_backward_versions() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(delta_rule_backward_versions);

template <class T>
void DeltaRuleBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(delta_rule_backward_versions)()(a);
}
template void DeltaRuleBackward::cpu(const Arguments<float>&);
template void DeltaRuleBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
