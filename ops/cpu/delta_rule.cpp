// ops/cpu/delta_rule.cpp: the forward pass, in three loops (ops/delta_rule.h): (I + A)^-1 of each chunk, the updates U
// and the states from chunk to chunk, the results.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/delta_rule.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/delta_rule.h"

#include "ops/cpu/delta_tile-inl.h"
#include "ops/cpu/versions.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kBlock = 16;  // rows at a time of the triangular system

/// g ← (I + n)^-1 for n above the diagonal, the first `size` rows and columns of [kTile][kTile], in blocks of rows from
/// the last to the first:
///   G_aa by substitution,   G_ab = -G_aa Σ_{c>a} N_ac G_cb
template <class T>
void invert_unit_upper(const T* n, std::int64_t size, T* g) {
  HWY_ALIGN T sums[kBlock * kTile], minus[kBlock * kBlock];
  std::fill_n(g, size * kTile, T(0));
  for (std::int64_t begin = size - kBlock; begin >= 0; begin -= kBlock) {
    const std::int64_t end = begin + kBlock;
    for (std::int64_t j = end - 1; j >= begin; --j) {
      T* row = g + j * kTile;
      row[j] = 1;
      for (std::int64_t i = j + 1; i < end; ++i)
        add_scaled(-n[j * kTile + i], g + i * kTile + begin, row + begin, kBlock);
    }
    if (end == size) continue;
    for (std::int64_t j = 0; j < kBlock; ++j)
      for (std::int64_t i = 0; i < kBlock; ++i) minus[j * kBlock + i] = -g[(begin + j) * kTile + begin + i];
    const auto behind = [&](std::int64_t depth) {
      return [=](std::int64_t, std::int64_t) { return Extent{end, size, 0, depth}; };
    };
    product<Start::zero>(Product<T>{n + begin * kTile + end, kTile, 1, g + end * kTile, kTile, sums, kTile}, 0, kBlock,
                         behind(size - end));
    product<Start::zero>(Product<T>{minus, kBlock, 1, sums, kTile, g + begin * kTile, kTile}, 0, kBlock,
                         behind(kBlock));
  }
}

/// The same element by element, so that a NaN or an infinity reaches only what depends on it; blocks multiply it by 0.
template <class T>
void invert_unit_upper_slowly(const T* n, std::int64_t size, T* g) {
  for (std::int64_t j = size - 1; j >= 0; --j)
    for (std::int64_t column = 0; column < size; ++column) {
      T sum = j == column ? T(1) : T(0);
      for (std::int64_t i = j + 1; i <= column; ++i) sum -= n[j * kTile + i] * g[i * kTile + column];
      g[j * kTile + column] = sum;
    }
}

/// ((I + A)^-1)ᵀ, A_ij = β_i (k_i·k_j) Γ_ij for j < i
template <class T>
void invert_chunk(const DeltaRuleForward::Arguments<T>& a, const LinearChunk<T>& chunk, std::int64_t number) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t width = padded<T>(p.width);
  Scratch<T> scratch(kTile * (width + p.width + kTile) + ChunkDecay<T>::size(p));
  T *keys = scratch.take(kTile * width), *transposed = scratch.take(kTile * p.width);
  T* system = scratch.take(kTile * kTile);  // Aᵀ
  plain_rows(a.k, chunk, p.width, width, keys);
  const ChunkDecay<T> decay(p, a.log_decay, chunk, scratch);
  decay.pairs(T(1), keys, keys, transposed, system);
  const T* beta = beta_of(p, a.beta, chunk);
  for (std::int64_t j = 0; j < chunk.count; ++j) {
    T* row = system + j * kTile;
    std::fill_n(row, j + 1, T(0));
    for (std::int64_t i = j + 1; i < chunk.count; ++i) row[i] *= beta[i];
  }
  const std::int64_t size = (chunk.count + kBlock - 1) / kBlock * kBlock;
  std::fill(system + chunk.count * kTile, system + size * kTile, T(0));
  T* inverse = inverse_at(p, a.inverses, chunk, number);
  if (rows_finite(system, kTile, size, size)) [[likely]]
    invert_unit_upper(system, size, inverse);
  else
    invert_unit_upper_slowly(system, size, inverse);
}

/// U and the states of one head, for the columns [begin, begin + columns) of V.
template <class T>
void follow_states(const DeltaRuleForward::Arguments<T>& a, std::int64_t head, std::int64_t begin,
                   std::int64_t columns) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t width = padded<T>(p.width), row = p.state_row();
  Scratch<T> all(kTile * (width + columns) + ChunkDecay<T>::size(p));
  for (std::int64_t number = 0; number < p.chunks(); ++number) {
    const LinearChunk<T> chunk(p, a.log_decay, head * p.chunks() + number);
    Scratch<T> scratch = all;
    T *keys = scratch.take(kTile * width), *right = scratch.take(kTile * columns);
    const ChunkDecay<T> decay(p, a.log_decay, chunk, scratch);
    const T* beta = beta_of(p, a.beta, chunk);
    const T* state = state_at(p, a.states, chunk.b, chunk.h, number) + begin;
    T *next = state_at(p, a.states, chunk.b, chunk.h, number + 1) + begin,
      *updates = rows_at(p, a.updates, chunk, number) + begin;
    // U = (I + A)^-1 diag(β) (V - diag(e^b) K S)
    plain_rows(a.k, chunk, p.width, width, keys);
    decay.since_start(T(-1), keys);
    const std::int64_t given = std::clamp<std::int64_t>(p.value_width - begin, 0, columns);
    for (std::int64_t i = 0; i < chunk.count; ++i) {
      std::copy_n(a.v.at(chunk.b, chunk.h, chunk.first + i) + begin, given, right + i * columns);
      std::fill(right + i * columns + given, right + (i + 1) * columns, T(0));
    }
    whole_product<Start::keep>(Product<T>{keys, width, 1, state, row, right, columns}, chunk.count, columns, p.width);
    scale_tile(right, columns, chunk.count, [&](std::int64_t i) { return beta[i]; });
    const T* inverse = inverse_at(p, a.inverses, chunk, number);
    sum_over_rows<Start::zero>(Product<T>{inverse, 1, kTile, right, columns, updates, row}, decay.mask(), columns);
    // S' = e^(b_C) S + (diag(e^(b_C - b)) K)ᵀ U
    plain_rows(a.k, chunk, p.width, width, keys);
    decay.until_end(keys);
    decay.copy_kept(state, next, row, columns);
    whole_product<Start::keep>(Product<T>{keys, 1, width, updates, row, next, row}, p.width, columns, chunk.count);
  }
}

template <class T>
void forward(const DeltaRuleForward::Arguments<T>& a) {
  const LinearAttentionProblem& p = a.problem;
  const std::int64_t products = kTile * p.width * p.value_width;
  set_state(p, a.first_state, 0, a.states);
  for_linear_chunks(p, a.log_decay, kTile * kTile * p.width,
                    [&](const LinearChunk<T>& chunk, std::int64_t number) { invert_chunk(a, chunk, number); });
  for_state_columns(
      p, [&](std::int64_t head, std::int64_t begin, std::int64_t columns) { follow_states(a, head, begin, columns); });
  for_linear_chunks(p, a.log_decay, 2 * products, [&](const LinearChunk<T>& chunk, std::int64_t number) {
    read_chunk(p, a.log_decay, a.q, a.k, chunk_rows(p, a.updates), chunk, number, a.states, a.y);
  });
}

}  // namespace

Versions<DeltaRuleForward> delta_rule_forward_versions() { return {forward<float>, forward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(delta_rule_forward_versions);

template <class T>
void DeltaRuleForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(delta_rule_forward_versions)()(a);
}
template void DeltaRuleForward::cpu(const Arguments<float>&);
template void DeltaRuleForward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
