// ops/cuda/cross_entropy.h: what both cross-entropies do with a row of logits. A row is as long as a vocabulary and
// begins wherever the one before ends: single elements up to the next multiple of 16 bytes, packs, single elements.
#pragma once

#include "ops/cuda/row.h"

namespace sq::kernel {

/// f(column, Values) for each of this thread's elements of a row that S::kWidth threads share.
template <class S, class T, class F>
__device__ inline void each_of_row(const T* row, std::int64_t columns, F&& f) {
  constexpr int P = cuda::kPack<T>;
  const auto past = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(row) % 16 / sizeof(T));
  const std::int64_t before = past == 0 ? 0 : P - past, head = before < columns ? before : columns;
  const std::int64_t packs = (columns - head) / P;
  if (S::place() < head) f(std::int64_t{S::place()}, Values<T, 1>::load(row + S::place()));
#pragma unroll 4
  for (std::int64_t pack = S::place(); pack < packs; pack += S::kWidth) {
    const std::int64_t c = head + pack * P;
    f(c, Values<T, P>::load(row + c));
  }
  const std::int64_t c = head + packs * P + S::place();
  if (c < columns) f(c, Values<T, 1>::load(row + c));
}

/// The largest value m and Σ e^(x - m) of the values seen so far; the total is NaN where there is a NaN or a +∞.
template <class W>
struct RunningTotal {
  W largest = -cuda::infinity<W>(), total = 0;

  template <class T, int N>
  __device__ void add(const Values<T, N>& x) {
    W most = largest;
#pragma unroll
    for (int i = 0; i < N; ++i) most = cuda::larger(most, x[i]);
    if (!(most <= largest)) {  // larger, or NaN
      total *= cuda::exp(largest - most);
      largest = most;
    }
    if (largest == -cuda::infinity<W>()) return;  // all -∞ so far: they add nothing
#pragma unroll
    for (int i = 0; i < N; ++i) total += cuda::exp(x[i] - largest);
  }
};

/// What a row costs, and ln Σ e^z; NaN both where the row has no distribution or the target is no class.
struct RowLoss {
  double loss, lse;
};

/// All threads of the row call and get the same.
template <class S, class T>
__device__ inline RowLoss row_loss(const T* z, std::int64_t columns, std::int64_t target, double label_smoothing) {
  using W = cuda::Wide<T>;
  RunningTotal<W> running;
  each_of_row<S>(z, columns, [&](std::int64_t, const auto& x) { running.add(x); });
  const W shift = S::template reduce<cuda::Largest>(running.largest);
  const W total = S::sum(running.total * cuda::exp(running.largest - shift));
  const double log_total = total > 0 ? cuda::log(static_cast<double>(total)) : cuda::not_a_number<double>();
  const bool is_class = target >= 0 && target < columns;
  // Differences to the largest value first: they keep their digits where the logits are large.
  double expected = is_class ? static_cast<double>(cuda::load(z + target)) - static_cast<double>(shift)
                             : cuda::not_a_number<double>();
  if (label_smoothing > 0) {
    W distances = 0;
    each_of_row<S>(z, columns, [&](std::int64_t, const auto& x) {
      for (const W value : x.at) distances += value - shift;
    });
    const double mean = static_cast<double>(S::sum(distances)) / static_cast<double>(columns);
    expected += label_smoothing * (mean - expected);
  }
  return {log_total - expected, is_class ? static_cast<double>(shift) + log_total : cuda::not_a_number<double>()};
}

/// dz = share · (e^(z - lse) - (1 - σ)[target] - σ/V), an element at a time.
template <class W>
struct LogitGradient {
  W scale, lse, spread, at_target;
  std::int64_t target;

  __device__ LogitGradient(double share, W row_lse, double label_smoothing, std::int64_t columns, std::int64_t t)
      : scale(static_cast<W>(share)),
        lse(row_lse),
        spread(static_cast<W>(share * label_smoothing / static_cast<double>(columns))),
        at_target(static_cast<W>(share * (1 - label_smoothing))),
        target(t) {}
  __device__ W operator()(std::int64_t column, W z) const {
    const W value = cuda::exp(z - lse) * scale - spread;
    return column == target ? value - at_target : value;
  }
};

/// Rows of up to this many columns are a warp's, longer ones a block's.
constexpr std::int64_t kWarpColumns = 1024;
using WarpRow = Spread<cuda::kWarp, 0>;
using BlockRow = Spread<kRowThreads, 0>;

}  // namespace sq::kernel
