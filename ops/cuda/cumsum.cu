// ops/cuda/cumsum.cu: a warp runs along a row (inner = 1), 32 elements at a time; otherwise a thread along a column.
// Running sums are in double.
#include "ops/cumsum.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) sum_along_rows(CumulativeSum::Arguments<T> a) {
  const std::int64_t row = cuda::global_index() / cuda::kWarp;
  if (row >= a.outer) return;
  const int lane = cuda::lane_index();
  double before = 0;
  for (std::int64_t first = 0; first < a.extent; first += cuda::kWarp) {
    const std::int64_t i = first + lane;
    const std::int64_t place = row * a.extent + (a.reverse ? a.extent - 1 - i : i);
    double sum = i < a.extent ? static_cast<double>(cuda::load(a.x + place)) : 0;
    for (int step = 1; step < cuda::kWarp; step *= 2) {
      const double other = cuda::shuffle_up(sum, step);
      if (lane >= step) sum += other;
    }
    sum += before;
    if (i < a.extent) cuda::store(a.y + place, static_cast<cuda::Wide<T>>(sum));
    before = cuda::shuffle(sum, cuda::kWarp - 1);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) sum_along_columns(CumulativeSum::Arguments<T> a) {
  const std::int64_t column = cuda::global_index();
  if (column >= a.outer * a.inner) return;
  double sum = 0;
  for (std::int64_t i = 0; i < a.extent; ++i) {
    const std::int64_t r = a.reverse ? a.extent - 1 - i : i;
    const std::int64_t place = (column / a.inner * a.extent + r) * a.inner + column % a.inner;
    sum += static_cast<double>(cuda::load(a.x + place));
    cuda::store(a.y + place, static_cast<cuda::Wide<T>>(sum));
  }
}

}  // namespace

template <class T>
void CumulativeSum::cuda(const cuda::Context& context, const Arguments<T>& a) {
  if (a.inner == 1)
    cuda::launch_kernel(context, name, sum_along_rows<T>,
                        {.blocks = cuda::blocks_for(a.outer, kThreads / cuda::kWarp), .threads = kThreads}, a);
  else
    cuda::launch_kernel(context, name, sum_along_columns<T>,
                        {.blocks = cuda::blocks_for(a.outer * a.inner, kThreads), .threads = kThreads}, a);
}

template void CumulativeSum::cuda(const cuda::Context&, const Arguments<float>&);
template void CumulativeSum::cuda(const cuda::Context&, const Arguments<double>&);
template void CumulativeSum::cuda(const cuda::Context&, const Arguments<bf16>&);
template void CumulativeSum::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
