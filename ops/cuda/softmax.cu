// ops/cuda/softmax.cu: one warp a row, or one block a long row. A row is read from memory once and twice more from the
// cache: a warp's row has 4 KiB in f32, a block's as much as the second-level cache holds easily.
#include "ops/softmax.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

constexpr int kThreads = 256;

/// A row is shared by `Width` threads: a warp's 32 lanes or the whole block.
template <int Width, class Combine, class W>
__device__ inline W reduce(W value) {
  if constexpr (Width == cuda::kWarp)
    return cuda::warp_reduce<Combine>(value);
  else
    return cuda::block_reduce<Combine>(value);
}

/// The row of this thread, and its place among the threads of the row.
template <int Width>
__device__ inline std::int64_t my_row() {
  return cuda::global_index() / Width;
}
template <int Width>
__device__ inline int my_place() {
  return cuda::thread_index() % Width;
}

template <int Width, class T>
__global__ void __launch_bounds__(kThreads) forward(SoftmaxForward::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t row = my_row<Width>();
  if (row >= a.rows) return;
  const T* x = a.x + row * a.columns;
  T* y = a.y + row * a.columns;
  W shift = -cuda::infinity<W>();
  for (std::int64_t c = my_place<Width>(); c < a.columns; c += Width) shift = cuda::larger(shift, cuda::load(x + c));
  shift = reduce<Width, cuda::Largest>(shift);
  W total = 0;
  for (std::int64_t c = my_place<Width>(); c < a.columns; c += Width) total += cuda::exp(cuda::load(x + c) - shift);
  total = reduce<Width, cuda::Plus>(total);
  // A total of 0 or NaN comes from a shift of ±∞ or NaN only; then all of the row must end as NaN.
  const W factor = total > 0 ? 1 / total : cuda::not_a_number<W>();
  const W log_total = total > 0 ? cuda::log(total) : factor;
  for (std::int64_t c = my_place<Width>(); c < a.columns; c += Width) {
    const W shifted = cuda::load(x + c) - shift;
    cuda::store(y + c, a.log ? shifted - log_total : cuda::exp(shifted) * factor);
  }
}

template <int Width, class T>
__global__ void __launch_bounds__(kThreads) backward(SoftmaxBackward::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t row = my_row<Width>();
  if (row >= a.rows) return;
  const T *y = a.y + row * a.columns, *dy = a.dy + row * a.columns;
  T* dx = a.dx + row * a.columns;
  W total = 0;
  for (std::int64_t c = my_place<Width>(); c < a.columns; c += Width)
    total += a.log ? cuda::load(dy + c) : cuda::load(dy + c) * cuda::load(y + c);
  total = reduce<Width, cuda::Plus>(total);
  for (std::int64_t c = my_place<Width>(); c < a.columns; c += Width) {
    const W value = cuda::load(y + c), upstream = cuda::load(dy + c);
    cuda::store(dx + c, a.log ? upstream - cuda::exp(value) * total : value * (upstream - total));
  }
}

/// Warps take rows of up to this many elements.
constexpr std::int64_t kWarpColumns = 1024;

template <class Arguments, class Kernel>
void launch_rows(const cuda::Context& context, std::string_view name, const Arguments& a, Kernel one_warp,
                 Kernel one_block) {
  if (a.columns <= kWarpColumns)
    cuda::launch_kernel(context, name, one_warp,
                        {.blocks = cuda::blocks_for(a.rows, kThreads / cuda::kWarp), .threads = kThreads}, a);
  else
    cuda::launch_kernel(context, name, one_block, {.blocks = a.rows, .threads = kThreads}, a);
}

}  // namespace

template <class T>
void SoftmaxForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  launch_rows(context, name, a, forward<cuda::kWarp, T>, forward<kThreads, T>);
}
template void SoftmaxForward::cuda(const cuda::Context&, const Arguments<float>&);
template void SoftmaxForward::cuda(const cuda::Context&, const Arguments<double>&);
template void SoftmaxForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SoftmaxForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void SoftmaxBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  launch_rows(context, name, a, backward<cuda::kWarp, T>, backward<kThreads, T>);
}
template void SoftmaxBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void SoftmaxBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void SoftmaxBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SoftmaxBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
