// ops/cpu/dropout.cpp: random numbers for a stretch of elements into the first-level cache, then one pass over the
// stretch.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/dropout.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/dropout.h"

#include "ops/cpu/philox-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// The upper 24 of the random bits of d's lanes, in lanes as wide as d's.
template <class D>
HWY_INLINE auto upper_bits(D, const std::uint32_t* words) {
  const auto bits = hn::ShiftRight<8>(hn::LoadU(hn::Rebind<std::uint32_t, D>(), words));
  if constexpr (sizeof(hn::TFromD<D>) == sizeof(std::uint32_t))
    return hn::BitCast(hn::RebindToSigned<D>(), bits);
  else
    return hn::BitCast(hn::RebindToSigned<D>(), hn::PromoteTo(hn::RebindToUnsigned<D>(), bits));
}

template <class T>
void dropout(const Dropout::Arguments<T>& a) {
  using Int = hn::TFromD<hn::RebindToSigned<hn::ScalableTag<T>>>;
  // u >= p for u = bits · 2⁻²⁴ means bits > ⌈p · 2²⁴⌉ - 1; the product is exact.
  const Int threshold = static_cast<Int>(std::ceil(a.p * 0x1p24)) - 1;
  const T scale = static_cast<T>(1 / (1 - a.p));
  cpu::parallel_for(a.count, 16 * kRandomWords, [&](std::int64_t begin, std::int64_t end) {
    HWY_ALIGN std::uint32_t words[kRandomWords];
    for (std::int64_t first = begin; first < end; first += kRandomWords) {
      random_words(a.seed, a.stream, static_cast<std::uint64_t>(first), words);
      for_each_lane<T>(std::min(kRandomWords, end - first), [&](auto d, std::int64_t i) HWY_ATTR {
        const auto bits = upper_bits(d, words + i);
        const auto kept = hn::RebindMask(d, hn::Gt(bits, hn::Set(hn::RebindToSigned<decltype(d)>(), threshold)));
        hn::StoreU(hn::IfThenElseZero(kept, hn::Mul(hn::LoadU(d, a.x + first + i), hn::Set(d, scale))), d,
                   a.y + first + i);
      });
    }
  });
}

Versions<Dropout> dropout_versions() { return {dropout<float>, dropout<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(dropout_versions);

template <class T>
void Dropout::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(dropout_versions)()(a);
}
template void Dropout::cpu(const Arguments<float>&);
template void Dropout::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
