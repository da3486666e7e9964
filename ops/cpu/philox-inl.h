// ops/cpu/philox-inl.h: the generator of tensor/random.h, several blocks at a time.
//
// Included inside a kernel file after hwy/highway.h, once per instruction set.

// clang-format off
#if defined(SUBQUAD_PHILOX_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_PHILOX_INL_H
#undef SUBQUAD_PHILOX_INL_H
#else
#define SUBQUAD_PHILOX_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// How many random numbers random_words makes at once; a multiple of 4 times the lanes of every instruction set.
constexpr std::int64_t kRandomWords = 1024;

/// words[i] = random_bits(seed, stream, first + i) for i = 0 … kRandomWords-1; `first` is a multiple of 4.
///
/// Each 64-bit lane holds the 32-bit counters of one block: a product of low halves gives both halves of the result at
/// once. Only low halves are ever used, so the upper ones may hold anything: they are not cleared between rounds, and
/// an upper half is moved down by swapping, which leaves the multiplier's port free.
HWY_INLINE void random_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t first,
                             std::uint32_t* HWY_RESTRICT words) {
  const hn::ScalableTag<std::uint64_t> d;
  const hn::Repartition<std::uint32_t, decltype(d)> narrow;
  const auto product = [&](auto a, std::uint64_t factor) HWY_ATTR {
    return hn::MulEven(hn::BitCast(narrow, a), hn::BitCast(narrow, hn::Set(d, factor)));
  };
  const auto upper = [&](auto a) HWY_ATTR { return hn::BitCast(d, hn::Shuffle2301(hn::BitCast(narrow, a))); };
  const auto joined = [&](auto low, auto high)
                          HWY_ATTR { return hn::Or(hn::And(low, hn::Set(d, 0xFFFFFFFFu)), hn::ShiftLeft<32>(high)); };
  std::uint64_t keys[20];
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    keys[2 * round] = k0;
    keys[2 * round + 1] = k1;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  auto counter = hn::Iota(d, first / 4);
  for (std::int64_t block = 0; block < kRandomWords / 4; block += lanes) {
    auto c0 = counter, c1 = hn::ShiftRight<32>(c0), c2 = hn::Set(d, stream), c3 = hn::Set(d, stream >> 32);
    counter = hn::Add(counter, hn::Set(d, static_cast<std::uint64_t>(lanes)));
    for (int round = 0; round < 10; ++round) {
      const auto p0 = product(c0, 0xD2511F53u), p1 = product(c2, 0xCD9E8D57u);
      c0 = hn::Xor(hn::Xor(upper(p1), c1), hn::Set(d, keys[2 * round]));
      c2 = hn::Xor(hn::Xor(upper(p0), c3), hn::Set(d, keys[2 * round + 1]));
      c1 = p1;
      c3 = p0;
    }
    hn::StoreInterleaved2(joined(c0, c1), joined(c2, c3), d, reinterpret_cast<std::uint64_t*>(words + 4 * block));
  }
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_PHILOX_INL_H
