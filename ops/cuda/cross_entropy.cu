// ops/cuda/cross_entropy.cu: forward reads the logits once: largest value and sum of exponentials together. Backward
// reads them once more and writes the gradient. The mean over positions is formed by one block, in double.
#include "ops/cross_entropy.h"
#include "ops/cuda/cross_entropy.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) forward(CrossEntropyForward::Arguments<T> a) {
  const std::int64_t row = cuda::block_index() * S::kGroups + S::group();
  if (row >= a.rows) return;
  const std::int64_t target = a.targets[row];
  RowLoss result{0, 0};
  if (target != a.ignore_index) result = row_loss<S>(a.logits + row * a.columns, a.columns, target, a.label_smoothing);
  if (S::place() > 0) return;
  a.losses[row] = static_cast<Wide<T>>(result.loss);
  if (a.lse) a.lse[row] = static_cast<Wide<T>>(result.lse);
}

template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) backward(CrossEntropyBackward::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t row = cuda::block_index() * S::kGroups + S::group();
  if (row >= a.rows) return;
  const T* const z = a.logits + row * a.columns;
  T* const dz = a.dlogits + row * a.columns;
  const std::int64_t target = a.targets[row];
  if (target == a.ignore_index) {
    for (std::int64_t c = S::place(); c < a.columns; c += S::kWidth) cuda::store(dz + c, W(0));
    return;
  }
  const double share = (a.dy ? static_cast<double>(*a.dy) : 1.0) / *a.counted;
  const LogitGradient<W> gradient(share, a.lse[row], a.label_smoothing, a.columns, target);
  const auto write = [&]<int N>(std::int64_t c, Values<T, N> values) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = gradient(c + i, values[i]);
    values.store(dz + c);
  };
  if (reinterpret_cast<std::uintptr_t>(z) % 16 == reinterpret_cast<std::uintptr_t>(dz) % 16)
    each_of_row<S>(z, a.columns, write);
  else
    for (std::int64_t c = S::place(); c < a.columns; c += S::kWidth) write(c, Values<T, 1>::load(z + c));
}

/// One block: threads add what is theirs, then all in a fixed order.
__global__ void __launch_bounds__(kRowThreads) count_targets(CountTargets::Arguments<double> a) {
  double own = 0;
  for (std::int64_t i = cuda::thread_index(); i < a.count; i += cuda::thread_count())
    own += a.targets[i] != a.ignore_index ? 1 : 0;
  const double all = cuda::block_sum(own);
  if (cuda::thread_index() == 0) *a.counted = all;
}

template <class T>
__global__ void __launch_bounds__(kRowThreads) mean_loss(MeanLoss::Arguments<T> a) {
  double own = 0;
  for (std::int64_t i = cuda::thread_index(); i < a.count; i += cuda::thread_count())
    own += static_cast<double>(a.losses[i]);
  const double all = cuda::block_sum(own);
  if (cuda::thread_index() == 0) *a.mean = static_cast<T>(all / *a.counted);
}

template <class Arguments, class Kernel>
void launch_rows(const cuda::Context& context, std::string_view name, const Arguments& a, Kernel one_warp,
                 Kernel one_block) {
  const bool warps = a.columns <= kWarpColumns;
  cuda::launch_kernel(
      context, name, warps ? one_warp : one_block,
      {.blocks = cuda::blocks_for(a.rows, warps ? WarpRow::kGroups : BlockRow::kGroups), .threads = kRowThreads}, a);
}

}  // namespace

template <class T>
void CrossEntropyForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  launch_rows(context, name, a, forward<WarpRow, T>, forward<BlockRow, T>);
}
template void CrossEntropyForward::cuda(const cuda::Context&, const Arguments<float>&);
template void CrossEntropyForward::cuda(const cuda::Context&, const Arguments<double>&);
template void CrossEntropyForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void CrossEntropyForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void CrossEntropyBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  launch_rows(context, name, a, backward<WarpRow, T>, backward<BlockRow, T>);
}
template void CrossEntropyBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void CrossEntropyBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void CrossEntropyBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void CrossEntropyBackward::cuda(const cuda::Context&, const Arguments<f16>&);

void CountTargets::cuda(const cuda::Context& context, const Arguments<double>& a) {
  cuda::launch_kernel(context, name, count_targets, {.blocks = 1, .threads = kRowThreads}, a);
}

template <class T>
void MeanLoss::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, mean_loss<T>, {.blocks = 1, .threads = kRowThreads}, a);
}
template void MeanLoss::cuda(const cuda::Context&, const Arguments<float>&);
template void MeanLoss::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
