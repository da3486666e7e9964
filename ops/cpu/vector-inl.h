// ops/cpu/vector-inl.h: loops over contiguous rows that kernels share, in Highway vectors of f32 or f64.
//
// Included inside a kernel file after hwy/highway.h, once per instruction set. Sums run in four independent chains
// (the order is fixed by the length alone, so a row always gives the same bits on one machine).

// clang-format off
#if defined(SUBQUAD_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_VECTOR_INL_H
#undef SUBQUAD_VECTOR_INL_H
#else
#define SUBQUAD_VECTOR_INL_H
#endif
// clang-format on

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

#include "ops/cpu/exp-inl.h"

#include <cmath>
#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Σ term(i), where `vector(i)` gives the terms i … i+lanes-1 and `scalar(i)` one term.
template <class T, class VectorTerm, class ScalarTerm>
HWY_INLINE T sum_terms(std::int64_t count, VectorTerm vector, ScalarTerm scalar) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    s0 = hn::Add(s0, vector(i));
    s1 = hn::Add(s1, vector(i + lanes));
    s2 = hn::Add(s2, vector(i + 2 * lanes));
    s3 = hn::Add(s3, vector(i + 3 * lanes));
  }
  for (; i + lanes <= count; i += lanes) s0 = hn::Add(s0, vector(i));
  T total = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < count; ++i) total += scalar(i);
  return total;
}

/// body(d, i) for i = 0 … count-1: with whole vectors while they fit, then with vectors of one lane. `body` is a
/// generic lambda that handles the lanes of tag d at place i.
template <class T, class Body>
HWY_INLINE void for_each_lane(std::int64_t count, Body body) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(d, i);
  for (; i < count; ++i) body(one, i);
}

/// Σ term(d, i) in the same manner.
template <class T, class Term>
HWY_INLINE T sum_lanes(std::int64_t count, Term term) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  return sum_terms<T>(
      count, [&](std::int64_t i) HWY_ATTR { return term(d, i); },
      [&](std::int64_t i) HWY_ATTR { return hn::GetLane(term(one, i)); });
}

/// Σ x_i
template <class T>
HWY_INLINE T sum(const T* HWY_RESTRICT x, std::int64_t count) {
  const hn::ScalableTag<T> d;
  return sum_terms<T>(
      count, [&](std::int64_t i) HWY_ATTR { return hn::LoadU(d, x + i); },
      [&](std::int64_t i) HWY_ATTR { return x[i]; });
}

/// Σ x_i y_i
template <class T>
HWY_INLINE T dot(const T* HWY_RESTRICT x, const T* HWY_RESTRICT y, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    s0 = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), s0);
    s1 = hn::MulAdd(hn::LoadU(d, x + i + lanes), hn::LoadU(d, y + i + lanes), s1);
    s2 = hn::MulAdd(hn::LoadU(d, x + i + 2 * lanes), hn::LoadU(d, y + i + 2 * lanes), s2);
    s3 = hn::MulAdd(hn::LoadU(d, x + i + 3 * lanes), hn::LoadU(d, y + i + 3 * lanes), s3);
  }
  for (; i + lanes <= count; i += lanes) s0 = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), s0);
  T total = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < count; ++i) total += x[i] * y[i];
  return total;
}

/// y_i ← y_i + a x_i
template <class T>
HWY_INLINE void add_scaled(T a, const T* HWY_RESTRICT x, T* HWY_RESTRICT y, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, a);
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  for (; i < count; ++i) y[i] += a * x[i];
}

/// y_i ← function(x_i) for a function from vectors to vectors; the remainder passes through a padded vector.
template <class T, class Function>
HWY_INLINE void map(const T* x, T* y, std::int64_t count, Function function) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(function(hn::LoadU(d, x + i)), d, y + i);
  if (i < count) {
    HWY_ALIGN T rest[hn::MaxLanes(d)] = {};
    for (std::int64_t j = i; j < count; ++j) rest[j - i] = x[j];
    hn::Store(function(hn::Load(d, rest)), d, rest);
    for (std::int64_t j = i; j < count; ++j) y[j] = rest[j - i];
  }
}

/// max x_i; -∞ when count is 0. A NaN anywhere gives NaN.
template <class T>
HWY_INLINE T maximum(const T* HWY_RESTRICT x, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto best = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto poison = hn::Zero(d);  // x - x is NaN for NaN (and for ±∞, which Max alone handles)
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    best = hn::Max(best, v);
    poison = hn::IfThenElse(hn::IsNaN(v), v, poison);
  }
  T result = hn::GetLane(hn::MaxOfLanes(d, best));
  T bad = hn::GetLane(hn::SumOfLanes(d, poison));
  for (; i < count; ++i) {
    if (std::isnan(x[i]))
      bad = x[i];
    else if (x[i] > result)
      result = x[i];
  }
  return std::isnan(bad) ? bad : result;
}

/// y_i ← exp(x_i - shift); returns Σ y_i. e^-∞ = 0.
template <class T>
HWY_INLINE T exp_shifted(const T* x, T shift, T* y, std::int64_t count) {
  const hn::ScalableTag<T> d;
  const auto offset = hn::Set(d, shift);
  map(x, y, count, [&](auto v) HWY_ATTR { return exp(d, hn::Sub(v, offset)); });
  return sum(y, count);
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_VECTOR_INL_H
