// ops/cuda/multinomial.cu: a warp a row, 32 elements at a time; sums in double. The order of additions differs from the
// CPU's, so that a draw within rounding of an edge may take the neighbour.
#include "ops/multinomial.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {
namespace {

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads) draw(Multinomial::Arguments<T> a) {
  const std::int64_t row = cuda::global_index() / cuda::kWarp;
  if (row >= a.rows) return;
  const int lane = cuda::lane_index();
  const T* p = a.probabilities + row * a.columns;
  double total = 0;
  bool valid = true;
  for (std::int64_t c = lane; c < a.columns; c += cuda::kWarp) {
    const double x = static_cast<double>(cuda::load(p + c));
    total += x;
    valid = valid && x >= 0;
  }
  total = cuda::warp_sum(total);
  if (cuda::ballot(!valid) != 0 || !(total > 0) || total - total != 0) {
    if (lane == 0) a.index[row] = -1;
    return;
  }
  const auto random = cuda::philox(a.seed, a.stream, static_cast<std::uint64_t>(row));
  const std::uint64_t bits = static_cast<std::uint64_t>(random.word[1]) << 32 | random.word[0];
  const double goal = static_cast<double>(bits >> 11) * 0x1p-53 * total;
  double before = 0;
  std::int64_t last = -1;  // the last index of positive probability: what rounding may leave over belongs to it
  for (std::int64_t first = 0; first < a.columns; first += cuda::kWarp) {
    const double x = first + lane < a.columns ? static_cast<double>(cuda::load(p + first + lane)) : 0;
    double sum = x;
    for (int step = 1; step < cuda::kWarp; step *= 2) {
      const double other = cuda::shuffle_up(sum, step);
      if (lane >= step) sum += other;
    }
    sum += before;
    const unsigned positive = cuda::ballot(x > 0), beyond = cuda::ballot(x > 0 && sum > goal);
    if (beyond != 0) {
      last = first + cuda::first_lane(beyond);
      break;
    }
    if (positive != 0) last = first + cuda::last_lane(positive);
    before = cuda::shuffle(sum, cuda::kWarp - 1);
  }
  if (lane == 0) a.index[row] = last;
}

}  // namespace

template <class T>
void Multinomial::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, draw<T>,
                      {.blocks = cuda::blocks_for(a.rows, kThreads / cuda::kWarp), .threads = kThreads}, a);
}

template void Multinomial::cuda(const cuda::Context&, const Arguments<float>&);
template void Multinomial::cuda(const cuda::Context&, const Arguments<double>&);
template void Multinomial::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Multinomial::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
