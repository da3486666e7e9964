// Packing: a part of A or B is copied into a small array in exactly the order in which the block kernel reads it. Then
// every load of the innermost loop is sequential, aligned and in cache, whatever the row stride or the transposition of
// the original, and 16-bit floats are widened on the way. The copy is read many times, so its cost is a few per cent.

#include "tensor/cpu/gemm_kernels.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tensor/cpu/pack_kernels.cpp"

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

/// One row: `count` contiguous elements.
template <class T, class S>
HWY_INLINE void copy_row(const S* HWY_RESTRICT source, std::int64_t count, T* HWY_RESTRICT target) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(load_widened(d, source + i), d, target + i);
  constexpr int kShort = 16 / sizeof(T);
  const hn::FixedTag<T, kShort> s;
  for (; i + kShort <= count; i += kShort) hn::StoreU(load_widened(s, source + i), s, target + i);
  for (; i < count; ++i) target[i] = static_cast<T>(source[i]);
}

constexpr std::int64_t kRowsAhead = 8;  // how early a row of the source is asked for; memory needs that long

template <class T, class S>
void pack_panels(const S* source, std::int64_t source_row, std::int64_t columns, std::int64_t depth,
                 std::int64_t panel_width, T* target) {
  for (std::int64_t p = 0; p < depth; ++p) {  // whole rows of the source, so that memory is read in sequence
    const S* soon = source + std::min(p + kRowsAhead, depth - 1) * source_row;
    for (std::int64_t j = 0; j < columns; j += 64 / sizeof(S)) hwy::Prefetch(soon + j);
    for (std::int64_t j = 0; j < columns; j += panel_width) {
      T* to = target + j * depth + p * panel_width;
      const std::int64_t width = std::min(panel_width, columns - j);
      copy_row(source + p * source_row + j, width, to);
      std::fill(to + width, to + panel_width, T(0));
    }
  }
}

/// Stores the transpose of a 4×4 tile of floats (2×2 of doubles) whose rows are given: two rounds of interleaving.
template <class D, class T>
HWY_INLINE void store_transposed(D d, const hn::Vec<D>* row, T* target, std::int64_t step) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    const auto a = hn::InterleaveLower(d, row[0], row[2]), b = hn::InterleaveUpper(d, row[0], row[2]);
    const auto e = hn::InterleaveLower(d, row[1], row[3]), f = hn::InterleaveUpper(d, row[1], row[3]);
    hn::StoreU(hn::InterleaveLower(d, a, e), d, target);
    hn::StoreU(hn::InterleaveUpper(d, a, e), d, target + step);
    hn::StoreU(hn::InterleaveLower(d, b, f), d, target + 2 * step);
    hn::StoreU(hn::InterleaveUpper(d, b, f), d, target + 3 * step);
  } else {
    hn::StoreU(hn::InterleaveLower(d, row[0], row[1]), d, target);
    hn::StoreU(hn::InterleaveUpper(d, row[0], row[1]), d, target + step);
  }
}

template <class T, class S>
void pack_panel_transposed(const S* source, std::int64_t source_row, std::int64_t width, std::int64_t depth,
                           std::int64_t panel_width, T* target) {
  constexpr int kSide = 16 / sizeof(T), kLine = 64 / sizeof(S);
  const hn::FixedTag<T, kSide> d;
  const auto copy = [&](std::int64_t p, std::int64_t j) {
    target[p * panel_width + j] = static_cast<T>(source[j * source_row + p]);
  };
  const std::int64_t whole_width = width / kSide * kSide, whole_depth = depth / kSide * kSide;
  // All of a cache line is used before the next row is touched: rows may fall on the same few lines of the cache.
  for (std::int64_t line = 0; line < whole_depth; line += kLine)
    for (std::int64_t j = 0; j < whole_width; j += kSide) {
      for (int r = 0; r < kSide; ++r) hwy::Prefetch(source + (j + r) * source_row + line + kLine);
      for (std::int64_t p = line; p < std::min(line + kLine, whole_depth); p += kSide) {
        hn::Vec<decltype(d)> row[kSide];
        for (int r = 0; r < kSide; ++r) row[r] = load_widened(d, source + (j + r) * source_row + p);
        store_transposed(d, row, target + p * panel_width + j, panel_width);
      }
    }
  for (std::int64_t p = whole_depth; p < depth; ++p)
    for (std::int64_t j = 0; j < whole_width; ++j) copy(p, j);
  for (std::int64_t p = 0; p < depth; ++p) {
    for (std::int64_t j = whole_width; j < width; ++j) copy(p, j);
    std::fill(target + p * panel_width + width, target + (p + 1) * panel_width, T(0));
  }
}

template <class T, class S>
void pack_panels_transposed(const S* source, std::int64_t source_row, std::int64_t columns, std::int64_t depth,
                            std::int64_t panel_width, T* target) {
  for (std::int64_t j = 0; j < columns; j += panel_width)
    pack_panel_transposed(source + j * source_row, source_row, std::min(panel_width, columns - j), depth, panel_width,
                          target + j * depth);
}

template <class T, class S>
PackKernels<T, S> packers() {
  return {&pack_panels<T, S>, &pack_panels_transposed<T, S>};
}
PackKernels<double, double> packers_f64() { return packers<double, double>(); }
PackKernels<float, float> packers_f32() { return packers<float, float>(); }
PackKernels<float, bf16> packers_bf16() { return packers<float, bf16>(); }
PackKernels<float, f16> packers_f16() { return packers<float, f16>(); }

}  // namespace sq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::cpu {

HWY_EXPORT(packers_f64);
HWY_EXPORT(packers_f32);
HWY_EXPORT(packers_bf16);
HWY_EXPORT(packers_f16);

template <>
PackKernels<double, double> pack_kernels() {
  return HWY_DYNAMIC_DISPATCH(packers_f64)();
}
template <>
PackKernels<float, float> pack_kernels() {
  return HWY_DYNAMIC_DISPATCH(packers_f32)();
}
template <>
PackKernels<float, bf16> pack_kernels() {
  return HWY_DYNAMIC_DISPATCH(packers_bf16)();
}
template <>
PackKernels<float, f16> pack_kernels() {
  return HWY_DYNAMIC_DISPATCH(packers_f16)();
}

}  // namespace sq::cpu
#endif  // HWY_ONCE
