// ops/cpu/adamw.cpp: all tensors are cut into blocks of one size, and the blocks of all of them form one parallel loop:
// a model has a few large matrices and many small vectors. Four streams in, three out; bound by memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/adamw.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/adamw.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <cmath>
#include <vector>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

template <class T>
void update(const AdamW::Arguments<T>& a, double factor, const AdamW::Item<T>& item, std::int64_t begin,
            std::int64_t end) {
  const auto as_t = [](double value) { return static_cast<T>(value); };
  const T shrink = as_t(item.shrink), scale = as_t(factor), epsilon = as_t(a.epsilon);
  const T beta1 = as_t(a.beta1), rest1 = as_t(1 - a.beta1), beta2 = as_t(a.beta2), rest2 = as_t(1 - a.beta2);
  const T step_size = as_t(a.step_size), inverse_root = as_t(a.inverse_root);
  T *weight = item.weight + begin, *exp_avg = item.exp_avg + begin, *exp_avg_sq = item.exp_avg_sq + begin;
  const T* gradient = item.gradient + begin;
  for_each_lane<T>(end - begin, [&](auto d, std::int64_t i) HWY_ATTR {
    const auto g = hn::Mul(hn::LoadU(d, gradient + i), hn::Set(d, scale));
    const auto m = hn::MulAdd(hn::Set(d, beta1), hn::LoadU(d, exp_avg + i), hn::Mul(hn::Set(d, rest1), g));
    const auto v =
        hn::MulAdd(hn::Set(d, beta2), hn::LoadU(d, exp_avg_sq + i), hn::Mul(hn::Set(d, rest2), hn::Mul(g, g)));
    const auto root = hn::MulAdd(hn::Sqrt(v), hn::Set(d, inverse_root), hn::Set(d, epsilon));
    const auto w = hn::Mul(hn::LoadU(d, weight + i), hn::Set(d, shrink));
    hn::StoreU(hn::NegMulAdd(hn::Set(d, step_size), hn::Div(m, root), w), d, weight + i);
    hn::StoreU(m, d, exp_avg + i);
    hn::StoreU(v, d, exp_avg_sq + i);
  });
}

template <class T>
void adamw(const AdamW::Arguments<T>& a) {
  constexpr std::int64_t kElementsPerBlock = 1 << 14;
  const double factor = gradient_factor(a.gradient_scale, a.norm, a.max_norm);
  if (std::isnan(factor)) return;
  struct Block {
    const AdamW::Item<T>* item;
    std::int64_t begin;
  };
  std::vector<Block> blocks;
  for (const AdamW::Item<T>& item : a.items)
    for (std::int64_t begin = 0; begin < item.count; begin += kElementsPerBlock) blocks.push_back({&item, begin});
  cpu::parallel_for(static_cast<std::int64_t>(blocks.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Block& block = blocks[static_cast<std::size_t>(i)];
      update(a, factor, *block.item, block.begin, std::min(block.begin + kElementsPerBlock, block.item->count));
    }
  });
}

Versions<AdamW> adamw_versions() { return {adamw<float>, adamw<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(adamw_versions);

template <class T>
void AdamW::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(adamw_versions)()(a);
}
template void AdamW::cpu(const Arguments<float>&);
template void AdamW::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
