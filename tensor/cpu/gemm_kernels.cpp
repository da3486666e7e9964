// The innermost loops of the blocked GEMM. Compiled once per vector target: foreach_target.h includes this file again
// for each, and HWY_DYNAMIC_DISPATCH picks the best one the CPU has.
//
// Micro-kernel: a tile of C with R rows and V vectors of columns stays in R·V registers while p runs over the depth:
//     c[i][v] += a(i, p) · b(p, v)        R broadcasts and V loads feed R·V fused multiply-adds.
// The larger the tile, the more arithmetic per load; the register file bounds it. With 32 registers 12×2 vectors leave
// room for two of B and one of A; with 16 registers it is 6×2. At 12×2, 14 loads feed 24 FMAs: two loads and two FMAs
// can start per cycle, so the loads hide behind the arithmetic, and 24 independent sums hide the latency of the FMA.

#include "tensor/cpu/gemm_kernels.h"

#include <algorithm>
#include <array>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/gemm_kernels.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sq::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Targets with 32 vector registers get the tall tile.
constexpr int kTileRows = (HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86) || HWY_TARGET == HWY_NEON ? 12 : 6;
constexpr int kTileVectors = 2;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vector = hn::Vec<Tag<T>>;

template <class T>
HWY_INLINE T* copy_columns(const T* from, std::int64_t count, T* to) {
  std::copy_n(from, count, to);
  return to;
}

/// One step of the sum: the outer product of `kRows` numbers of A and `kVectors` vectors of B.
template <class T, int kRows, int kVectors, class ElementOfA>
HWY_INLINE void add_outer_product(const T* HWY_RESTRICT b, Vector<T> (&sum)[kRows][kVectors], ElementOfA&& a) {
  const Tag<T> d;
  Vector<T> row[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, b + v * static_cast<std::int64_t>(hn::Lanes(d)));
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    const Vector<T> x = hn::Set(d, a(i));
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::MulAdd(x, row[v], sum[i][v]);
  }
}

/// sum[i][v] = Σ_p a(i,p) · b(p,v) over the depth of the block.
template <class T, int kRows, int kVectors, bool kPackedA>
HWY_INLINE void sum_products(const GemmBlock<T>& block, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b,
                             Vector<T> (&sum)[kRows][kVectors]) {
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Zero(Tag<T>());

  std::int64_t p = block.depth;
  if constexpr (kPackedA) {  // a(i,p) = a[p·kTileRows + i]: constant distances; two steps a turn halve the bookkeeping
    const std::int64_t b_step = block.b_step;
    for (; p >= 2; p -= 2) {
      add_outer_product<T>(b, sum, [a](int i) HWY_ATTR { return a[i]; });
      add_outer_product<T>(b + b_step, sum, [a](int i) HWY_ATTR { return a[kTileRows + i]; });
      a += 2 * kTileRows;
      b += 2 * b_step;
    }
    if (p > 0) add_outer_product<T>(b, sum, [a](int i) HWY_ATTR { return a[i]; });
  } else {
    // Every third row has a pointer of its own; the next two are reached as base + stride and base + 2·stride, which
    // the processor's addressing modes give for nothing.
    constexpr int kGroups = (kRows + 2) / 3;
    const std::int64_t a_row = block.a_row;
    const T* group[kGroups];
    for (int g = 0; g < kGroups; ++g) group[g] = a + 3 * g * a_row;
    const std::int64_t next = kRows * a_row;  // the rows of the next tile are asked for, a cache line of each at a time
    for (; p > 0; --p) {
      if (p % (64 / sizeof(T)) == 0)
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) hwy::Prefetch(group[i / 3] + (i % 3) * a_row + next);
      add_outer_product<T>(b, sum, [&](int i) HWY_ATTR { return group[i / 3][(i % 3) * a_row]; });
      b += block.b_step;
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) group[g] += block.a_step;
    }
  }
}

/// One tile of C with kRows rows and `columns` ≤ kVectors·lanes columns.
template <class T, int kRows, int kVectors, bool kPackedA>
void micro_kernel(const GemmBlock<T>& block, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, T* c, const T* bias,
                  std::int64_t columns) {
  const Tag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (int i = 0; i < kRows; ++i)  // C arrives while the sum is formed
    for (int v = 0; v < kVectors; ++v) hwy::Prefetch(c + i * block.ldc + v * lanes);

  Vector<T> sum[kRows][kVectors];
  sum_products<T, kRows, kVectors, kPackedA>(block, a, b, sum);

  // Partly filled vectors go through a buffer, so that nothing beyond a row of C is touched.
  const bool whole = columns == kVectors * lanes;
  HWY_ALIGN T buffer[kRows * kVectors * hn::MaxLanes(d)];
  HWY_ALIGN T bias_buffer[kVectors * hn::MaxLanes(d)];
  T* out = whole ? c : buffer;
  const std::int64_t ldc = whole ? block.ldc : kVectors * lanes;
  if (!whole) {
    if (block.beta != T(0))
      for (int i = 0; i < kRows; ++i) copy_columns(c + i * block.ldc, columns, buffer + i * ldc);
    if (bias != nullptr) bias = copy_columns(bias, columns, bias_buffer);
  }
  const Vector<T> alpha = hn::Set(d, block.alpha);
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[i][v] = hn::Mul(sum[i][v], alpha);
  if (block.beta != T(0)) {
    const Vector<T> beta = hn::Set(d, block.beta);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        sum[i][v] = hn::MulAdd(beta, hn::LoadU(d, out + i * ldc + v * lanes), sum[i][v]);
  }
  if (bias != nullptr) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> addend = hn::LoadU(d, bias + v * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) sum[i][v] = hn::Add(sum[i][v], addend);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[i][v], d, out + i * ldc + v * lanes);
  if (!whole)
    for (int i = 0; i < kRows; ++i) copy_columns(buffer + i * ldc, columns, c + i * block.ldc);
}

template <class T>
using MicroKernel = void (*)(const GemmBlock<T>&, const T*, const T*, T*, const T*, std::int64_t);

/// micro_kernel for 1 … kTileRows rows.
template <class T, int kVectors, bool kPackedA, int... kRowsMinusOne>
constexpr std::array<MicroKernel<T>, sizeof...(kRowsMinusOne)> micro_kernels(
    std::integer_sequence<int, kRowsMinusOne...>) {
  return {&micro_kernel<T, kRowsMinusOne + 1, kVectors, kPackedA>...};
}

/// All tiles of a block. A panel of B (depth × panel width) stays in the first cache while the row panels of A pass by.
template <class T, bool kPackedA>
void multiply_tiles(const GemmBlock<T>& block) {
  using Rows = std::make_integer_sequence<int, kTileRows>;
  static constexpr auto kNarrow = micro_kernels<T, 1, kPackedA>(Rows());
  static constexpr auto kWide = micro_kernels<T, kTileVectors, kPackedA>(Rows());
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
  const std::int64_t width = kTileVectors * lanes;
  for (std::int64_t j = 0; j < block.columns; j += width) {
    const std::int64_t columns = std::min(width, block.columns - j);
    const T* b = block.b + j / width * block.b_panel;
    const T* bias = block.bias == nullptr ? nullptr : block.bias + j;
    const auto& kernels = columns <= lanes ? kNarrow : kWide;
    for (std::int64_t i = 0; i < block.rows; i += kTileRows) {
      const std::int64_t rows = std::min<std::int64_t>(kTileRows, block.rows - i);
      kernels[static_cast<std::size_t>(rows - 1)](block, block.a + i / kTileRows * block.a_panel, b,
                                                  block.c + i * block.ldc + j, bias, columns);
    }
  }
}

template <class T>
void multiply(const GemmBlock<T>& block) {
  if (block.a_row == 1 && block.a_step == kTileRows)
    multiply_tiles<T, true>(block);
  else
    multiply_tiles<T, false>(block);
}

template <class T>
GemmKernels<T> kernels() {
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(Tag<T>()));
  return {kTileRows, kTileVectors * lanes, lanes, &multiply<T>};
}
GemmKernels<float> kernels_f32() { return kernels<float>(); }
GemmKernels<double> kernels_f64() { return kernels<double>(); }

}  // namespace sq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::cpu {

HWY_EXPORT(kernels_f32);
HWY_EXPORT(kernels_f64);

template <>
GemmKernels<float> gemm_kernels() {
  return HWY_DYNAMIC_DISPATCH(kernels_f32)();
}
template <>
GemmKernels<double> gemm_kernels() {
  return HWY_DYNAMIC_DISPATCH(kernels_f64)();
}

}  // namespace sq::cpu
#endif  // HWY_ONCE
