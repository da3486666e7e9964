// ops/cpu/rms_norm.cpp: rows in parallel, each read once forward and twice backward while it is in the first-level
// cache. The gain's gradient sums over rows: every block of rows makes its own partial sum, and the blocks are added in
// order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/rms_norm.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/rms_norm.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

constexpr std::int64_t kRowsPerBlock = 16;

template <class T>
void forward(const RmsNormForward::Arguments<T>& a) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  cpu::parallel_for(a.rows, kRowsPerBlock, [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = a.x + row * a.columns;
      T* y = a.y + row * a.columns;
      const T r = static_cast<T>(1.0 / std::sqrt(dot(x, x, a.columns) / static_cast<double>(a.columns) + a.epsilon));
      a.r[row] = r;
      const auto scale = hn::Set(d, r);
      std::int64_t c = 0;
      for (; c + lanes <= a.columns; c += lanes)
        hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + c), scale), hn::LoadU(d, a.gain + c)), d, y + c);
      for (; c < a.columns; ++c) y[c] = x[c] * r * a.gain[c];
    }
  });
}

/// dx = r·g·dy - r³·s·x with s = mean_c(dy·g·x), where dx is wanted; dg += dy·x·r, where kSums.
template <bool kSums, class T>
void backward_row(const RmsNormBackward::Arguments<T>& a, std::int64_t row, T* HWY_RESTRICT dgain) {
  const T *x = a.x + row * a.columns, *dy = a.dy + row * a.columns;
  const T r = a.r[row];
  const auto add_sums = [&](auto d, std::int64_t c) HWY_ATTR {
    const auto normal = hn::Mul(hn::LoadU(d, x + c), hn::Set(d, r));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + c), normal, hn::LoadU(d, dgain + c)), d, dgain + c);
  };
  if (!a.dx) {
    if constexpr (kSums) for_each_lane<T>(a.columns, add_sums);
    return;
  }
  T* HWY_RESTRICT dx = a.dx + row * a.columns;
  const T s =
      sum_lanes<T>(a.columns,
                   [&](auto d, std::int64_t c) HWY_ATTR {
                     return hn::Mul(hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, a.gain + c)), hn::LoadU(d, x + c));
                   }) /
      static_cast<T>(a.columns);
  const T factor = r * r * r * s;
  for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
    const auto first = hn::Mul(hn::Mul(hn::Set(d, r), hn::LoadU(d, a.gain + c)), hn::LoadU(d, dy + c));
    hn::StoreU(hn::NegMulAdd(hn::Set(d, factor), hn::LoadU(d, x + c), first), d, dx + c);
    if constexpr (kSums) add_sums(d, c);
  });
}

/// dg = Σ_rows dy·x·r, one partial sum for each block of rows, of which there are at most 64.
template <class T>
void backward(const RmsNormBackward::Arguments<T>& a) {
  const std::int64_t grain = std::max(kRowsPerBlock, cpu::block_count(a.rows, 64));
  const std::int64_t blocks = cpu::block_count(a.rows, grain);
  Tensor partial = a.dgain ? Tensor::empty({blocks, a.columns}, {.dtype = dtype_of<T>()}) : Tensor();
  T* sums = a.dgain ? partial.data<T>() : nullptr;
  cpu::parallel_for(a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T* own = sums ? sums + begin / grain * a.columns : nullptr;
    if (own) std::fill_n(own, a.columns, T{});
    for (std::int64_t row = begin; row < end; ++row) {
      if (own)
        backward_row<true>(a, row, own);
      else
        backward_row<false>(a, row, own);
    }
  });
  if (!sums) return;
  std::fill_n(a.dgain, a.columns, T{});
  for (std::int64_t block = 0; block < blocks; ++block) add_scaled(T{1}, sums + block * a.columns, a.dgain, a.columns);
}

Versions<RmsNormForward> forward_versions() { return {forward<float>, forward<double>}; }
Versions<RmsNormBackward> backward_versions() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(forward_versions);
HWY_EXPORT(backward_versions);

template <class T>
void RmsNormForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(forward_versions)()(a);
}
template void RmsNormForward::cpu(const Arguments<float>&);
template void RmsNormForward::cpu(const Arguments<double>&);

template <class T>
void RmsNormBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(backward_versions)()(a);
}
template void RmsNormBackward::cpu(const Arguments<float>&);
template void RmsNormBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
