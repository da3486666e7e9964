// A few vectors times a large matrix: each element of the matrix is used only `vectors` times, so the time is that of
// reading it from memory. These loops read it once, in sequence, without copying it first; everything else they touch
// stays in registers or the L1 cache. What comes next is asked for ahead of time: the processor's own prefetching stops
// at the end of each row piece and at each page, which costs 16-bit matrices a third of the memory's speed.

#include "tensor/cpu/gemv_kernels.h"

#include <algorithm>
#include <array>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/gemv_kernels.cpp"

// The order matters here.
// clang-format off
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "tensor/cpu/widen-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace sq::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// kRows rows of W at a time, so that several sums are under way; one vector of partial sums for each product x_i·w_j.
template <class T, class S, int kVectors, int kRows>
HWY_INLINE void dot_group(const T* HWY_RESTRICT x, std::int64_t x_row, const S* HWY_RESTRICT w, std::int64_t w_row,
                          std::int64_t depth, T* HWY_RESTRICT sums, std::int64_t sums_row) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  V sum[kVectors][kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sum[i][r] = hn::Zero(d);
  std::int64_t p = 0;
  for (; p + lanes <= depth; p += lanes) {
    V row[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) row[r] = load_widened(d, w + r * w_row + p);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) hwy::Prefetch(w + (r + kRows) * w_row + p);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const V xi = hn::LoadU(d, x + i * x_row + p);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sum[i][r] = hn::MulAdd(xi, row[r], sum[i][r]);
    }
  }
  if (p < depth) {  // the rest of the rows through a buffer that ends in zeros
    HWY_ALIGN T rest[kRows][hn::MaxLanes(d)] = {};
    for (int r = 0; r < kRows; ++r)
      for (std::int64_t q = p; q < depth; ++q) rest[r][q - p] = static_cast<T>(w[r * w_row + q]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i)
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
        sum[i][r] = hn::MulAdd(hn::LoadU(d, x + i * x_row + p), hn::Load(d, rest[r]), sum[i][r]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[i * sums_row + r] = hn::GetLane(hn::SumOfLanes(d, sum[i][r]));
}

template <class T, class S, int kVectors>
void dot_rows(const T* x, std::int64_t x_row, const S* w, std::int64_t w_row, std::int64_t rows, std::int64_t depth,
              T* sums, std::int64_t sums_row) {
  constexpr bool kManyRegisters = HWY_TARGET == HWY_AVX3;  // 32 of them
  constexpr int kRows = kVectors <= 2 ? 4 : kVectors <= 4 || kManyRegisters ? 2 : 1;
  std::int64_t j = 0;
  for (; j + kRows <= rows; j += kRows)
    dot_group<T, S, kVectors, kRows>(x, x_row, w + j * w_row, w_row, depth, sums + j, sums_row);
  for (; j < rows; ++j) dot_group<T, S, kVectors, 1>(x, x_row, w + j * w_row, w_row, depth, sums + j, sums_row);
}

/// sums_i += Σ_r x_i[r]·W[r,:] for kRows rows of W.
template <class T, class S, int kVectors, int kRows>
HWY_INLINE void combine_group(const T* HWY_RESTRICT x, std::int64_t x_row, const S* HWY_RESTRICT w, std::int64_t w_row,
                              std::int64_t columns, T* HWY_RESTRICT sums, std::int64_t sums_row) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t j = 0;
  for (; j + lanes <= columns; j += lanes) {
    V row[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) row[r] = load_widened(d, w + r * w_row + j);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) hwy::Prefetch(w + (r + kRows) * w_row + j);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      V sum = hn::LoadU(d, sums + i * sums_row + j);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sum = hn::MulAdd(hn::Set(d, x[i * x_row + r]), row[r], sum);
      hn::StoreU(sum, d, sums + i * sums_row + j);
    }
  }
  const hn::CappedTag<T, 1> one;  // the same arithmetic, one column at a time
  for (; j < columns; ++j)
    for (int i = 0; i < kVectors; ++i) {
      T* sum = sums + i * sums_row + j;
      for (int r = 0; r < kRows; ++r)
        hn::StoreU(hn::MulAdd(hn::Set(one, x[i * x_row + r]), hn::Set(one, static_cast<T>(w[r * w_row + j])),
                              hn::LoadU(one, sum)),
                   one, sum);
    }
}

template <class T, class S, int kVectors>
void combine_rows(const T* x, std::int64_t x_row, const S* w, std::int64_t w_row, std::int64_t columns,
                  std::int64_t depth, T* sums, std::int64_t sums_row) {
  for (int i = 0; i < kVectors; ++i) std::fill_n(sums + i * sums_row, columns, T(0));
  std::int64_t p = 0;
  for (; p + 4 <= depth; p += 4)
    combine_group<T, S, kVectors, 4>(x + p, x_row, w + p * w_row, w_row, columns, sums, sums_row);
  for (; p < depth; ++p) combine_group<T, S, kVectors, 1>(x + p, x_row, w + p * w_row, w_row, columns, sums, sums_row);
}

template <class T, class S>
using Kernel = void (*)(const T*, std::int64_t, const S*, std::int64_t, std::int64_t, std::int64_t, T*, std::int64_t);

template <class T, class S, int... kVectorsMinusOne>
constexpr std::array<Kernel<T, S>, kMaxVectors> dot_kernels(std::integer_sequence<int, kVectorsMinusOne...>) {
  return {&dot_rows<T, S, kVectorsMinusOne + 1>...};
}
template <class T, class S, int... kVectorsMinusOne>
constexpr std::array<Kernel<T, S>, kMaxVectors> combine_kernels(std::integer_sequence<int, kVectorsMinusOne...>) {
  return {&combine_rows<T, S, kVectorsMinusOne + 1>...};
}

template <class T, class S>
void dot_any(int vectors, const T* x, std::int64_t x_row, const S* w, std::int64_t w_row, std::int64_t rows,
             std::int64_t depth, T* sums, std::int64_t sums_row) {
  static constexpr auto kKernels = dot_kernels<T, S>(std::make_integer_sequence<int, kMaxVectors>());
  kKernels[static_cast<std::size_t>(vectors - 1)](x, x_row, w, w_row, rows, depth, sums, sums_row);
}
template <class T, class S>
void combine_any(int vectors, const T* x, std::int64_t x_row, const S* w, std::int64_t w_row, std::int64_t columns,
                 std::int64_t depth, T* sums, std::int64_t sums_row) {
  static constexpr auto kKernels = combine_kernels<T, S>(std::make_integer_sequence<int, kMaxVectors>());
  kKernels[static_cast<std::size_t>(vectors - 1)](x, x_row, w, w_row, columns, depth, sums, sums_row);
}

template <class T, class S>
GemvKernels<T, S> gemv() {
  static_assert(hn::MaxLanes(hn::ScalableTag<T>()) <= kPadding);
  return {&dot_any<T, S>, &combine_any<T, S>};
}
GemvKernels<double, double> gemv_f64() { return gemv<double, double>(); }
GemvKernels<float, float> gemv_f32() { return gemv<float, float>(); }
GemvKernels<float, bf16> gemv_bf16() { return gemv<float, bf16>(); }
GemvKernels<float, f16> gemv_f16() { return gemv<float, f16>(); }

}  // namespace sq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::cpu {

HWY_EXPORT(gemv_f64);
HWY_EXPORT(gemv_f32);
HWY_EXPORT(gemv_bf16);
HWY_EXPORT(gemv_f16);

template <>
GemvKernels<double, double> gemv_kernels() {
  return HWY_DYNAMIC_DISPATCH(gemv_f64)();
}
template <>
GemvKernels<float, float> gemv_kernels() {
  return HWY_DYNAMIC_DISPATCH(gemv_f32)();
}
template <>
GemvKernels<float, bf16> gemv_kernels() {
  return HWY_DYNAMIC_DISPATCH(gemv_bf16)();
}
template <>
GemvKernels<float, f16> gemv_kernels() {
  return HWY_DYNAMIC_DISPATCH(gemv_f16)();
}

}  // namespace sq::cpu
#endif  // HWY_ONCE
