// ops/cpu/exp-inl.h: e^x, and 2^x for the softmax of attention, where x <= 0 up to rounding.
//
// Attention scales its scores by log2 e beforehand, so that e^s = 2^(s log2 e) needs no product of its own.
//
// Both in f32: x is split into a multiple of ln 2 (of 1) and a small rest, the rest goes through a polynomial, and the
// multiple n is added to the exponent of the result.

// clang-format off
#if defined(SUBQUAD_EXP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_EXP_INL_H
#undef SUBQUAD_EXP_INL_H
#else
#define SUBQUAD_EXP_INL_H
#endif
// clang-format on

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

#include <cstdint>
#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// p·2^n for f32, where `shifted` is n + 1.5·2^23 and so has n in its low bits: n is added to the exponent of p.
template <class D>
HWY_INLINE hn::Vec<D> times_power_of_two(D d, hn::Vec<D> p, hn::Vec<D> shifted) {
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

/// 2^x for f32, x < 128. x = n + f with n the nearest integer: 2^f = 1 + f·P(f) with a polynomial P of degree 5
/// (interpolated at Chebyshev nodes; error 5e-9, far below rounding), then n is added to the exponent. Results below
/// 2^-126 are 0, also for -∞; NaN stays NaN.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> exp2(D d, hn::Vec<D> x) {
  const auto magic = hn::Set(d, 12582912.0f);  // 1.5·2^23: adding it rounds to an integer, kept in the low bits
  const auto shifted = hn::Add(x, magic);
  const auto f = hn::Sub(x, hn::Sub(shifted, magic));
  auto p = hn::MulAdd(hn::Set(d, 0.0001545316294f), f, hn::Set(d, 0.0013390863365f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0096180825573f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555035711422f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.2402265076057f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.6931471880262f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto scaled = times_power_of_two(d, p, shifted);
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), scaled);
}

/// e^x for f32, to 0.9 units in the last place. x = n·ln 2 + r with n the nearest integer and ln 2 in two parts, the
/// first of which has so few digits that n times it is exact: e^r = 1 + r + r²·P(r) with the P of degree 4 that is best
/// in the relative error (3e-9). Results below 2^-126 are 0, above the largest number ∞; NaN stays NaN.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  const auto magic = hn::Set(d, 12582912.0f);  // as in exp2
  const auto shifted = hn::MulAdd(x, hn::Set(d, 1.44269504089f), magic);
  const auto n = hn::Sub(shifted, magic);
  auto r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.428606765330187e-06f), r);
  auto p = hn::MulAdd(hn::Set(d, 0.0013814583856f), r, hn::Set(d, 0.0083687239436f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.0416683887332f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.1666652057349f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.4999999344386f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto scaled = times_power_of_two(d, p, shifted);
  const auto finite = hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3365f)), scaled);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, 88.7228394f)), hn::Inf(d), finite);
}

/// e^x for f64, to a few units in the last place. Highway's version loses NaN and needs x below a bound, past which the
/// result is ∞ in any case.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, hn::Min(x, hn::Set(d, 710.0))));
}

/// 2^x for f64, to a few units in the last place; NaN stays NaN, which hn::Exp does not promise.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> exp2(D d, hn::Vec<D> x) {
  const auto result = hn::Exp(d, hn::Mul(x, hn::Set(d, std::numbers::ln2)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -1000.0)), result));
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_EXP_INL_H
