// ops/cpu/lanes-inl.h: a Highway vector of f32 or f64 that is written like a number, with accurate functions.
//
// Included inside a kernel file after hwy/highway.h, once per instruction set. Lanes<T> has as many elements as the
// widest vector of the instruction set; every element goes through the same arithmetic wherever it stands.

// clang-format off
#if defined(SUBQUAD_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_LANES_INL_H
#undef SUBQUAD_LANES_INL_H
#else
#define SUBQUAD_LANES_INL_H
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

template <class T>
struct Lanes {
  using D = hn::ScalableTag<T>;

  hn::Vec<D> v;

  Lanes() = default;
  HWY_INLINE explicit Lanes(double value) : v(hn::Set(D(), static_cast<T>(value))) {}
  HWY_INLINE explicit Lanes(hn::Vec<D> vector) : v(vector) {}

  static HWY_INLINE std::int64_t count() { return static_cast<std::int64_t>(hn::Lanes(D())); }
  static HWY_INLINE Lanes load(const T* from) { return Lanes(hn::LoadU(D(), from)); }
  HWY_INLINE void store(T* to) const { hn::StoreU(v, D(), to); }
};

/// The result of a comparison.
template <class T>
struct Condition {
  hn::Mask<hn::ScalableTag<T>> m;
};

template <class T>
HWY_INLINE Lanes<T> operator+(Lanes<T> a, Lanes<T> b) {
  return Lanes<T>(hn::Add(a.v, b.v));
}
template <class T>
HWY_INLINE Lanes<T> operator-(Lanes<T> a, Lanes<T> b) {
  return Lanes<T>(hn::Sub(a.v, b.v));
}
template <class T>
HWY_INLINE Lanes<T> operator*(Lanes<T> a, Lanes<T> b) {
  return Lanes<T>(hn::Mul(a.v, b.v));
}
template <class T>
HWY_INLINE Lanes<T> operator/(Lanes<T> a, Lanes<T> b) {
  return Lanes<T>(hn::Div(a.v, b.v));
}
template <class T>
HWY_INLINE Lanes<T> operator-(Lanes<T> x) {
  return Lanes<T>(hn::Neg(x.v));
}
template <class T>
HWY_INLINE Condition<T> operator<(Lanes<T> a, Lanes<T> b) {
  return {hn::Lt(a.v, b.v)};
}
template <class T>
HWY_INLINE Condition<T> operator>(Lanes<T> a, Lanes<T> b) {
  return {hn::Gt(a.v, b.v)};
}
template <class T>
HWY_INLINE Condition<T> operator==(Lanes<T> a, Lanes<T> b) {
  return {hn::Eq(a.v, b.v)};
}
template <class T>
HWY_INLINE Condition<T> is_nan(Lanes<T> x) {
  return {hn::IsNaN(x.v)};
}
template <class T>
HWY_INLINE Lanes<T> select(Condition<T> condition, Lanes<T> yes, Lanes<T> no) {
  return Lanes<T>(hn::IfThenElse(condition.m, yes.v, no.v));
}
/// a·b + c, in one rounding where the processor can.
template <class T>
HWY_INLINE Lanes<T> multiply_add(Lanes<T> a, Lanes<T> b, Lanes<T> c) {
  return Lanes<T>(hn::MulAdd(a.v, b.v, c.v));
}
template <class T>
HWY_INLINE Lanes<T> abs(Lanes<T> x) {
  return Lanes<T>(hn::Abs(x.v));
}
template <class T>
HWY_INLINE Lanes<T> sqrt(Lanes<T> x) {
  return Lanes<T>(hn::Sqrt(x.v));
}

/// e^x
template <class T>
HWY_INLINE Lanes<T> exp(Lanes<T> x) {
  return Lanes<T>(exp(typename Lanes<T>::D(), x.v));
}

/// ln x; -∞ at 0, NaN below.
template <class T>
HWY_INLINE Lanes<T> log(Lanes<T> x) {
  const typename Lanes<T>::D d;
  constexpr T infinity = std::numeric_limits<T>::infinity();
  const auto zero = hn::Zero(d);
  auto y = hn::Log(d, x.v);
  y = hn::IfThenElse(hn::Eq(x.v, zero), hn::Set(d, -infinity), y);
  y = hn::IfThenElse(hn::Lt(x.v, zero), hn::Set(d, std::numeric_limits<T>::quiet_NaN()), y);
  const auto stays = hn::Or(hn::IsNaN(x.v), hn::Eq(x.v, hn::Set(d, infinity)));
  return Lanes<T>(hn::IfThenElse(stays, x.v, y));
}

template <class T>
HWY_INLINE Lanes<T> tanh(Lanes<T> x) {
  const typename Lanes<T>::D d;
  return Lanes<T>(hn::IfThenElse(hn::IsNaN(x.v), x.v, hn::Tanh(d, x.v)));
}

/// function(x_i) element by element, for what has no vector form.
template <class T, class Function>
HWY_INLINE Lanes<T> each(Lanes<T> x, Function function) {
  const typename Lanes<T>::D d;
  HWY_ALIGN T values[hn::MaxLanes(d)];
  hn::Store(x.v, d, values);
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) values[i] = function(values[i]);
  return Lanes<T>(hn::Load(d, values));
}

/// x^y as std::pow has it.
template <class T>
HWY_INLINE Lanes<T> power(Lanes<T> x, Lanes<T> y) {
  const typename Lanes<T>::D d;
  HWY_ALIGN T exponents[hn::MaxLanes(d)];
  hn::Store(y.v, d, exponents);
  const T* exponent = exponents;
  return each(x, [&](T base) { return std::pow(base, *exponent++); });
}

/// The normal distribution function Φ(x) = (1 + erf(x/√2)) / 2.
HWY_INLINE Lanes<double> normal_cdf(Lanes<double> x) {
  return each(x, [](double value) { return 0.5 * std::erfc(value * -0.70710678118654752440); });
}

/// In f32: with z = |x| and t = 1 / (1 + z/4),  1 - Φ(z) = e^(-z²/2) · t · p(t).  The polynomial p is the best one of
/// degree 9 in the relative error (8e-9) for z in [0, 14], found by Remez's exchange; past that e^(-z²/2) is 0.
HWY_INLINE Lanes<float> normal_cdf(Lanes<float> x) {
  using V = Lanes<float>;
  constexpr double kCoefficients[] = {-0.06279117975, 0.05165009311, 0.02843880863, 0.01270937288, 0.08665822265,
                                      0.07199895204,  0.09551582165, 0.09949254392, 0.09974790421};
  const V z = abs(x), t = V(1) / multiply_add(V(0.25), z, V(1));
  V p(0.01657946473);
  for (const double c : kCoefficients) p = multiply_add(p, t, V(c));
  const V tail = exp(V(-0.5) * z * z) * t * p;
  return select(x > V(0), V(1) - tail, tail);
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_LANES_INL_H
