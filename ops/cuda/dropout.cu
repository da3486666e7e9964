// ops/cuda/dropout.cu: one pass; a thread draws the random numbers of its elements while they arrive from memory.
#include "ops/cuda/row.h"
#include "ops/dropout.h"

#include <cmath>

namespace sq::kernel {
namespace {

/// As many elements as one call of philox serves, and no fewer than make 16 bytes.
template <class T>
inline constexpr int kEach = std::max(4, cuda::kPack<T>);

/// Kept where the upper 24 random bits are at least `threshold` = ⌈p · 2²⁴⌉, which is random_uniform >= p exactly.
template <bool kPacked, class T>
__global__ void __launch_bounds__(kRowThreads) drop(Dropout::Arguments<T> a, std::uint32_t threshold) {
  using W = cuda::Wide<T>;
  constexpr int N = kEach<T>, P = kPacked ? std::min(N, cuda::kPack<T>) : 1;
  const W scale = static_cast<W>(1 / (1 - a.p));
  const std::int64_t first = cuda::global_index() * N;
  if (first >= a.count) return;
  Values<T, P> values[N / P];
#pragma unroll
  for (int k = 0; k < N / P; ++k)
    if (kPacked || first + k < a.count) values[k] = Values<T, P>::load(a.x + first + k * P);
#pragma unroll
  for (int quad = 0; quad < N / 4; ++quad) {
    const cuda::RandomWords random = cuda::philox(a.seed, a.stream, static_cast<std::uint64_t>(first) / 4 + quad);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int item = quad * 4 + i;
      W& value = values[item / P][item % P];
      value = random.word[i] >> 8 >= threshold ? value * scale : W(0);
    }
  }
#pragma unroll
  for (int k = 0; k < N / P; ++k)
    if (kPacked || first + k < a.count) values[k].store(a.y + first + k * P);
}

}  // namespace

template <class T>
void Dropout::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const auto threshold = static_cast<std::uint32_t>(std::ceil(a.p * 0x1p24));
  const bool packed = cuda::is_aligned(a.x) && cuda::is_aligned(a.y) && a.count % kEach<T> == 0;
  cuda::launch_kernel(
      context, name, packed ? drop<true, T> : drop<false, T>,
      {.blocks = cuda::blocks_for(a.count, std::int64_t{kRowThreads} * kEach<T>), .threads = kRowThreads}, a,
      threshold);
}
template void Dropout::cuda(const cuda::Context&, const Arguments<float>&);
template void Dropout::cuda(const cuda::Context&, const Arguments<double>&);
template void Dropout::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Dropout::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
