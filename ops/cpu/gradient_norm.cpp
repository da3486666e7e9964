// ops/cpu/gradient_norm.cpp: one pass over memory. f32 values are widened before they are squared, so neither overflow
// nor the number of elements (10⁸ and more) costs digits. The blocks of all tensors form one parallel loop; their sums
// are added in order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/gradient_norm.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/gradient_norm.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <vector>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

constexpr std::int64_t kElementsPerBlock = 1 << 15;

/// d's lanes at x as doubles.
template <class D, class T>
HWY_INLINE auto widened(D d, const T* x) {
  if constexpr (sizeof(T) == sizeof(double))
    return hn::LoadU(d, x);
  else
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, D>(), x));
}

/// Σ x² of a block, whose quarters are read side by side: a core fetches four streams faster than one.
template <class T>
double block_squares(const T* x, std::int64_t count) {
  const hn::ScalableTag<double> d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t quarter = count / 4 / lanes * lanes;
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  const auto add = [&](auto& sum, std::int64_t i) HWY_ATTR {
    const auto v = widened(d, x + i);
    sum = hn::MulAdd(v, v, sum);
  };
  for (std::int64_t i = 0; i < quarter; i += lanes) {
    add(s0, i);
    add(s1, i + quarter);
    add(s2, i + 2 * quarter);
    add(s3, i + 3 * quarter);
  }
  double total = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (std::int64_t i = 4 * quarter; i < count; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return total;
}

template <class T>
void sum_of_squares(const SumOfSquares::Arguments<T>& a) {
  struct Block {
    const T* x;
    std::int64_t count;
    double sum;
  };
  std::vector<Block> blocks;
  for (const SumOfSquares::Item<T>& item : a.items)
    for (std::int64_t begin = 0; begin < item.count; begin += kElementsPerBlock)
      blocks.push_back({item.x + begin, std::min(kElementsPerBlock, item.count - begin), 0});
  cpu::parallel_for(static_cast<std::int64_t>(blocks.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      Block& block = blocks[static_cast<std::size_t>(i)];
      block.sum = block_squares(block.x, block.count);
    }
  });
  for (const Block& block : blocks) *a.sum += block.sum;
}

template <class T>
void scale(const Scale::Arguments<T>& a) {
  const T factor = static_cast<T>(a.factor);
  cpu::parallel_for(a.count, kElementsPerBlock, [&](std::int64_t begin, std::int64_t end) {
    for_each_lane<T>(end - begin, [&](auto d, std::int64_t i) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::LoadU(d, a.x + begin + i), hn::Set(d, factor)), d, a.x + begin + i);
    });
  });
}

Versions<SumOfSquares> sum_of_squares_versions() { return {sum_of_squares<float>, sum_of_squares<double>}; }
Versions<Scale> scale_versions() { return {scale<float>, scale<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(sum_of_squares_versions);
HWY_EXPORT(scale_versions);

template <class T>
void SumOfSquares::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(sum_of_squares_versions)()(a);
}
template void SumOfSquares::cpu(const Arguments<float>&);
template void SumOfSquares::cpu(const Arguments<double>&);

template <class T>
void Scale::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(scale_versions)()(a);
}
template void Scale::cpu(const Arguments<float>&);
template void Scale::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
