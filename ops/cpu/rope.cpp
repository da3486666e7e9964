// ops/cpu/rope.cpp: blocks of positions in parallel; all heads of a block share its cosines and sines while these are
// in the first-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/rope.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/rope.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

constexpr std::int64_t kPositionsPerBlock = 16;

/// y = [x₁ cos - x₂ sin ; x₂ cos + x₁ sin] for the halves x₁, x₂ of one row.
template <class T>
HWY_INLINE void turn_row(const T* x, const T* table, bool backward, T* y, std::int64_t pairs) {
  for_each_lane<T>(pairs, [&](auto d, std::int64_t m) HWY_ATTR {
    const auto x1 = hn::LoadU(d, x + m), x2 = hn::LoadU(d, x + pairs + m), cosine = hn::LoadU(d, table + m);
    const auto positive = hn::LoadU(d, table + pairs + m), sine = backward ? hn::Neg(positive) : positive;
    hn::StoreU(hn::NegMulAdd(x2, sine, hn::Mul(x1, cosine)), d, y + m);
    hn::StoreU(hn::MulAdd(x1, sine, hn::Mul(x2, cosine)), d, y + pairs + m);
  });
}

template <class T>
void rope(const Rope::Arguments<T>& a) {
  const std::int64_t blocks = cpu::block_count(a.positions, kPositionsPerBlock);
  cpu::parallel_for(a.batch * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t b = block / blocks, first = block % blocks * kPositionsPerBlock;
      const std::int64_t last = std::min(first + kPositionsPerBlock, a.positions);
      const T* table = a.table + b * a.table_step;
      for (std::int64_t h = 0; h < a.heads; ++h)
        for (std::int64_t t = first; t < last; ++t)
          turn_row(a.x + b * a.x_steps.batch + h * a.x_steps.head + t * a.x_steps.position, table + t * a.width,
                   a.backward, a.y + b * a.y_steps.batch + h * a.y_steps.head + t * a.y_steps.position, a.width / 2);
    }
  });
}

Versions<Rope> rope_versions() { return {rope<float>, rope<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(rope_versions);

template <class T>
void Rope::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(rope_versions)()(a);
}
template void Rope::cpu(const Arguments<float>&);
template void Rope::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
