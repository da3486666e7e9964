// ops/cpu/exp2-inl.h: 2^x for the softmax of attention, where x <= 0 up to rounding.
//
// Scores are scaled by log2 e beforehand, so that e^s = 2^(s log2 e) needs no product of its own.

// clang-format off
#if defined(SUBQUAD_EXP2_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_EXP2_INL_H
#undef SUBQUAD_EXP2_INL_H
#else
#define SUBQUAD_EXP2_INL_H
#endif
// clang-format on

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

#include <cstdint>
#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// 2^x for f32, x < 128. x = n + f with n the nearest integer: 2^f = 1 + f·P(f) with a polynomial P of degree 5
/// (interpolated at Chebyshev nodes; error 5e-9, far below rounding), then n is added to the exponent. Results below
/// 2^-126 are 0, also for -∞; NaN stays NaN.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 4>* = nullptr>
HWY_INLINE hn::Vec<D> exp2(D d, hn::Vec<D> x) {
  const hn::RebindToSigned<D> di;
  const auto magic = hn::Set(d, 12582912.0f);  // 1.5·2^23: adding it rounds to an integer, kept in the low bits
  const auto shifted = hn::Add(x, magic);
  const auto f = hn::Sub(x, hn::Sub(shifted, magic));
  auto p = hn::MulAdd(hn::Set(d, 0.0001545316294f), f, hn::Set(d, 0.0013390863365f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0096180825573f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.0555035711422f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.2402265076057f));
  p = hn::MulAdd(p, f, hn::Set(d, 0.6931471880262f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), scaled);
}

/// 2^x for f64, to a few units in the last place; NaN stays NaN, which hn::Exp does not promise.
template <class D, hwy::EnableIf<sizeof(hn::TFromD<D>) == 8>* = nullptr>
HWY_INLINE hn::Vec<D> exp2(D d, hn::Vec<D> x) {
  const auto result = hn::Exp(d, hn::Mul(x, hn::Set(d, std::numbers::ln2)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -1000.0)), result));
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_EXP2_INL_H
