// tensor/cpu/widen-inl.h: loading vectors of f32 from 16-bit floats. Included by kernels once per vector target.

#include "tensor/dtype.h"

#include <hwy/highway.h>

#if defined(SUBQUAD_TENSOR_CPU_WIDEN_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_TENSOR_CPU_WIDEN_INL_H
#undef SUBQUAD_TENSOR_CPU_WIDEN_INL_H
#else
#define SUBQUAD_TENSOR_CPU_WIDEN_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace sq::cpu::HWY_NAMESPACE {

/// A vector of D's elements from memory, which holds the same type or, for float, bf16 or f16. Unaligned.
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_widened(D d, const hwy::HWY_NAMESPACE::TFromD<D>* from) {
  return hwy::HWY_NAMESPACE::LoadU(d, from);
}
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_widened(D d, const bf16* from) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> wide;
  const hn::Rebind<std::uint16_t, D> narrow;
  // A bf16 is the upper half of a float.
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(wide, hn::LoadU(narrow, &from->bits))));
}
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_widened(D d, const f16* from) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::Rebind<std::uint16_t, D> bits;
  const hn::Rebind<hwy::float16_t, D> half;
  return hn::PromoteTo(d, hn::BitCast(half, hn::LoadU(bits, &from->bits)));
}

}  // namespace sq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
