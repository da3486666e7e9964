// ops/cuda/dropout.cu: four elements a thread, which share one block of random numbers.
#include "ops/dropout.h"
#include "tensor/cuda/kernel.h"

#include <cmath>

namespace sq::kernel {
namespace {

constexpr int kThreads = 256;

/// Kept where the upper 24 random bits are at least `threshold`.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout(Dropout::Arguments<T> a, std::uint32_t threshold, cuda::Wide<T> scale) {
  const std::int64_t first = cuda::global_index() * 4;
  if (first >= a.count) return;
  const auto random = cuda::philox(a.seed, a.stream, static_cast<std::uint64_t>(first / 4));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (first + i >= a.count) return;
    const cuda::Wide<T> x = cuda::load(a.x + first + i);
    cuda::store(a.y + first + i, random.word[i] >> 8 >= threshold ? x * scale : 0);
  }
}

}  // namespace

template <class T>
void Dropout::cuda(const cuda::Context& context, const Arguments<T>& a) {
  // u >= p for u = bits · 2⁻²⁴ means bits >= ⌈p · 2²⁴⌉; the product is exact.
  const auto threshold = static_cast<std::uint32_t>(std::ceil(a.p * 0x1p24));
  cuda::launch_kernel(context, name, dropout<T>,
                      {.blocks = cuda::blocks_for(a.count, 4 * kThreads), .threads = kThreads}, a, threshold,
                      static_cast<cuda::Wide<T>>(1 / (1 - a.p)));
}

template void Dropout::cuda(const cuda::Context&, const Arguments<float>&);
template void Dropout::cuda(const cuda::Context&, const Arguments<double>&);
template void Dropout::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Dropout::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
