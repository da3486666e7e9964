// ops/cuda/gradient_norm.cu: one pass over memory, 64 tensors a launch (multi_tensor.h). Each block adds up its squares
// in double and leaves one number; a last block adds those in a fixed order, so that every run gives the same bits.
#include "ops/cuda/multi_tensor.h"
#include "ops/gradient_norm.h"

namespace sq::kernel {
namespace {

constexpr int kThreads = 256;
template <class T>
inline constexpr std::int64_t kElementsPerBlock = std::int64_t{16} * kThreads* cuda::kPack<T>;

template <class T>
__global__ void __launch_bounds__(kThreads)
    block_squares(TensorBatch<SumOfSquares::Item<T>> batch, double* __restrict__ sums) {
  constexpr int P = cuda::kPack<T>;
  const std::int64_t block = cuda::block_index();
  const int number = batch.item_of(block);
  const SumOfSquares::Item<T>& item = batch.items[number];
  const std::int64_t begin = (block - batch.first_block[number]) * kElementsPerBlock<T>;
  const std::int64_t end = begin + kElementsPerBlock<T> < item.count ? begin + kElementsPerBlock<T> : item.count;
  const bool packed = (batch.packed >> number & 1) != 0;
  double sum = 0;
  const auto add = [&](T x) {
    const auto value = static_cast<double>(cuda::widen(x));
    sum += value * value;
  };
  for (std::int64_t i = begin + cuda::thread_index() * P; i < end; i += kThreads * P) {
    if (packed && i + P <= end) {
      const auto pack = cuda::Pack<T, P>::load(item.x + i);
#pragma unroll
      for (int n = 0; n < P; ++n) add(pack.items[n]);
    } else {
      for (std::int64_t n = i; n < i + P && n < end; ++n) add(item.x[n]);
    }
  }
  sum = cuda::block_sum(sum);
  if (cuda::thread_index() == 0) sums[block] = sum;
}

/// One block.
__global__ void __launch_bounds__(kThreads)
    add_up(const double* __restrict__ sums, std::int64_t count, double* __restrict__ total) {
  double sum = 0;
  for (std::int64_t i = cuda::thread_index(); i < count; i += kThreads) sum += sums[i];
  sum = cuda::block_sum(sum);
  if (cuda::thread_index() == 0) *total += sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) scale_elements(Scale::Arguments<T> a, bool packed) {
  constexpr int P = cuda::kPack<T>;
  const auto factor = static_cast<cuda::Wide<T>>(a.factor);
  const std::int64_t i = cuda::global_index() * P;
  if (packed && i + P <= a.count) {
    auto pack = cuda::Pack<T, P>::load(a.x + i);
#pragma unroll
    for (int n = 0; n < P; ++n) pack.items[n] = cuda::narrow<T>(cuda::widen(pack.items[n]) * factor);
    pack.store(a.x + i);
  } else {
    for (std::int64_t n = i; n < i + P && n < a.count; ++n) cuda::store(a.x + n, cuda::load(a.x + n) * factor);
  }
}

}  // namespace

template <class T>
void SumOfSquares::cuda(const cuda::Context& context, const Arguments<T>& a) {
  std::int64_t blocks = 0;
  for (const Item<T>& item : a.items) blocks += cuda::blocks_for(item.count, kElementsPerBlock<T>);
  const cuda::Buffer<double> sums(context, blocks);
  for_batches(
      a.items, kElementsPerBlock<T>, [](const Item<T>& item) { return cuda::is_aligned(item.x); },
      [&](const TensorBatch<Item<T>>& batch, std::int64_t here, std::int64_t before) {
        cuda::launch_kernel(context, name, block_squares<T>, {.blocks = here, .threads = kThreads}, batch,
                            sums.data() + before);
      });
  cuda::launch_kernel(context, name, add_up, {.blocks = 1, .threads = kThreads}, sums.data(), blocks, a.sum);
}
template void SumOfSquares::cuda(const cuda::Context&, const Arguments<float>&);
template void SumOfSquares::cuda(const cuda::Context&, const Arguments<double>&);
template void SumOfSquares::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SumOfSquares::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void Scale::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, scale_elements<T>,
                      {.blocks = cuda::blocks_for(a.count, kThreads * cuda::kPack<T>), .threads = kThreads}, a,
                      cuda::is_aligned(a.x));
}
template void Scale::cuda(const cuda::Context&, const Arguments<float>&);
template void Scale::cuda(const cuda::Context&, const Arguments<double>&);
template void Scale::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Scale::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
