// ops/cpu/rows-inl.h: products of one vector with many rows that lie anywhere in memory, read in place.
//
// `row(n)` gives the n-th row's address. Both functions give each row the same arithmetic whatever its neighbours are.

// clang-format off
#if defined(SUBQUAD_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_ROWS_INL_H
#undef SUBQUAD_ROWS_INL_H
#else
#define SUBQUAD_ROWS_INL_H
#endif
// clang-format on

#include "hwy/cache_control.h"
#include "hwy/highway.h"

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Asks for rows that are soon read. Rows from anywhere arrive one by one when each is first asked for at its use.
template <class Row>
HWY_INLINE void prefetch_rows(std::int64_t width, std::int64_t count, Row row) {
  constexpr auto kLine = static_cast<std::int64_t>(64 / sizeof(*row(0)));
  for (std::int64_t n = 0; n < count; ++n)
    for (std::int64_t c = 0; c < width; c += kLine) hwy::Prefetch(row(n) + c);
}

/// Stores the sums over the lanes of a, b, c and e to out[0 … 3]: halves are added until 128 bits are left of each,
/// then a small transposition finishes all four at once.
template <class D, class V, class T>
HWY_INLINE void store_sums(D d, V a, V b, V c, V e, T* out) {
  if constexpr (hn::MaxLanes(d) * sizeof(T) > 16) {
    const hn::Half<D> half;
    store_sums(half, hn::Add(hn::LowerHalf(half, a), hn::UpperHalf(half, a)),
               hn::Add(hn::LowerHalf(half, b), hn::UpperHalf(half, b)),
               hn::Add(hn::LowerHalf(half, c), hn::UpperHalf(half, c)),
               hn::Add(hn::LowerHalf(half, e), hn::UpperHalf(half, e)), out);
  } else {
    const auto ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
    const auto ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
    if constexpr (sizeof(T) == 4) {
      hn::StoreU(hn::Add(hn::ConcatLowerLower(d, ce, ab), hn::ConcatUpperUpper(d, ce, ab)), d, out);
    } else {
      hn::StoreU(ab, d, out);
      hn::StoreU(ce, d, out + 2);
    }
  }
}

/// out_n = Σ_c x_c · row(n)_c for n = 0 … count-1. `out` has room for `count` rounded up to a multiple of 4.
template <class T, class Row>
HWY_INLINE void dots(const T* HWY_RESTRICT x, std::int64_t width, std::int64_t count, Row row, T* out) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t whole = width / lanes * lanes;
  for (std::int64_t n = 0; n < count; n += 4) {
    const std::int64_t last = count - 1;
    const T *r0 = row(n), *r1 = row(std::min(n + 1, last)), *r2 = row(std::min(n + 2, last)),
            *r3 = row(std::min(n + 3, last));
    auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (std::int64_t c = 0; c < whole; c += lanes) {
      const auto v = hn::LoadU(d, x + c);
      s0 = hn::MulAdd(v, hn::LoadU(d, r0 + c), s0);
      s1 = hn::MulAdd(v, hn::LoadU(d, r1 + c), s1);
      s2 = hn::MulAdd(v, hn::LoadU(d, r2 + c), s2);
      s3 = hn::MulAdd(v, hn::LoadU(d, r3 + c), s3);
    }
    store_sums(d, s0, s1, s2, s3, out + n);
    for (std::int64_t c = whole; c < width; ++c) {
      out[n] += x[c] * r0[c];
      out[n + 1] += x[c] * r1[c];
      out[n + 2] += x[c] * r2[c];
      out[n + 3] += x[c] * r3[c];
    }
  }
}

/// `kVectors` vectors of y ← y + Σ_n w_n row(n), columns from `column` on. Two sums run side by side to hide latency.
template <int kVectors, class T, class Row>
HWY_INLINE void add_weighted_columns(const T* HWY_RESTRICT w, std::int64_t column, std::int64_t count, Row row, T* y) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  hn::Vec<hn::ScalableTag<T>> even[kVectors], odd[kVectors];
  for (int i = 0; i < kVectors; ++i) {
    even[i] = hn::LoadU(d, y + column + i * lanes);
    odd[i] = hn::Zero(d);
  }
  std::int64_t n = 0;
  for (; n + 2 <= count; n += 2) {
    const auto w0 = hn::Set(d, w[n]), w1 = hn::Set(d, w[n + 1]);
    const T *r0 = row(n) + column, *r1 = row(n + 1) + column;
    for (int i = 0; i < kVectors; ++i) {
      even[i] = hn::MulAdd(w0, hn::LoadU(d, r0 + i * lanes), even[i]);
      odd[i] = hn::MulAdd(w1, hn::LoadU(d, r1 + i * lanes), odd[i]);
    }
  }
  if (n < count) {
    const auto w0 = hn::Set(d, w[n]);
    const T* r0 = row(n) + column;
    for (int i = 0; i < kVectors; ++i) even[i] = hn::MulAdd(w0, hn::LoadU(d, r0 + i * lanes), even[i]);
  }
  for (int i = 0; i < kVectors; ++i) hn::StoreU(hn::Add(even[i], odd[i]), d, y + column + i * lanes);
}

/// y ← y + Σ_n w_n · row(n) for n = 0 … count-1.
template <class T, class Row>
HWY_INLINE void add_weighted(const T* HWY_RESTRICT w, std::int64_t width, std::int64_t count, Row row, T* y) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  std::int64_t c = 0;
  for (; c + 4 * lanes <= width; c += 4 * lanes) add_weighted_columns<4>(w, c, count, row, y);
  for (; c + lanes <= width; c += lanes) add_weighted_columns<1>(w, c, count, row, y);
  if (c == width) return;
  for (std::int64_t n = 0; n < count; ++n) {
    const T* r = row(n);
    for (std::int64_t i = c; i < width; ++i) y[i] += w[n] * r[i];
  }
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_ROWS_INL_H
