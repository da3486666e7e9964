// ops/cuda/half_linear.cu: few rows, as in decoding, take as long as the weight takes to arrive: a warp forms one
// column of the result and reads its row of the weight once for four rows of x. Many rows are worth a product in f32;
// for it the weight is widened, 64 MiB at a time.
#include "ops/cuda/row.h"
#include "ops/half_linear.h"
#include "tensor/cuda/gemm.h"

#include <algorithm>

namespace sq::kernel {
namespace {

constexpr int kRowsTogether = 4;
constexpr std::int64_t kFewRows = 16;

/// y[rows of block axis 1, column] for a column a warp; P elements of the weight a lane.
template <int P, class T>
__global__ void __launch_bounds__(kRowThreads) few_rows(HalfWeightProduct::Arguments<T> a) {
  const std::int64_t column = cuda::block_index() * cuda::warp_count() + cuda::warp_index();
  if (column >= a.out) return;
  const std::int64_t first = cuda::block_index(1) * kRowsTogether;
  const T* const weight = a.weight + column * a.in;
  float sums[kRowsTogether] = {};
#pragma unroll 2
  for (std::int64_t k = cuda::lane_index() * P; k < a.in; k += cuda::kWarp * P) {
    const auto w = Values<T, P>::load(weight + k);
#pragma unroll
    for (int r = 0; r < kRowsTogether; ++r) {
      if (first + r >= a.rows) continue;
      const float* const x = a.x + (first + r) * a.in + k;
      constexpr int kTogether = P > 1 ? 4 : 1;
#pragma unroll
      for (int i = 0; i < P; i += kTogether) {
        const auto values = Values<float, kTogether>::load(x + i);
#pragma unroll
        for (int j = 0; j < kTogether; ++j) sums[r] += w[i + j] * values[j];
      }
    }
  }
  const float bias = a.bias ? a.bias[column] : 0.0f;
#pragma unroll
  for (int r = 0; r < kRowsTogether; ++r) {
    if (first + r >= a.rows) continue;
    const float sum = cuda::warp_sum(sums[r]);
    if (cuda::lane_index() == 0) a.y[(first + r) * a.out + column] = sum + bias;
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads) widen_all(std::int64_t count, const T* from, float* to) {
  const std::int64_t i = cuda::global_index();
  if (i < count) to[i] = cuda::load(from + i);
}

/// The stored rows of the weight in turn: columns of y or, untransposed, terms of its sums.
template <class T>
void many_rows(const cuda::Context& context, const HalfWeightProduct::Arguments<T>& a) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  const std::int64_t stored = a.transposed ? a.out : a.in, length = a.transposed ? a.in : a.out;
  const std::int64_t most = std::max<std::int64_t>(1, std::min(stored, kMost / std::max<std::int64_t>(length, 1)));
  const cuda::Buffer<float> wide(context, most * length);
  std::int64_t first = 0;
  do {
    const std::int64_t count = std::min(most, stored - first);
    cuda::launch_kernel(context, HalfWeightProduct::name, widen_all<T>,
                        {.blocks = cuda::blocks_for(count * length, kRowThreads), .threads = kRowThreads},
                        count * length, a.weight + first * length, wide.data());
    cuda::GemmArguments<float> product{
        .m = a.rows, .n = a.transposed ? count : a.out, .k = a.transposed ? a.in : count};
    product.a = a.transposed ? a.x : a.x + first;
    product.lda = a.in;
    product.b = wide.data();
    product.ldb = length;
    product.transpose_b = a.transposed;
    product.c = a.transposed ? a.y + first : a.y;
    product.ldc = a.out;
    if (a.transposed)
      product.bias = a.bias ? a.bias + first : nullptr;
    else
      product.bias = first == 0 ? a.bias : nullptr;
    product.beta = a.transposed || first == 0 ? 0 : 1;
    cuda::gemm(context, product);
    first += count;
  } while (first < stored);
}

}  // namespace

template <class T>
void HalfWeightProduct::cuda(const cuda::Context& context, const Arguments<T>& a) {
  constexpr int P = cuda::kPack<T>;
  if (!a.transposed || a.rows > kFewRows) return many_rows(context, a);
  const bool packed = a.in % P == 0 && cuda::is_aligned(a.weight) && cuda::is_aligned(a.x);
  cuda::launch_kernel(context, name, packed ? few_rows<P, T> : few_rows<1, T>,
                      {.blocks = cuda::blocks_for(a.out, kRowThreads / cuda::kWarp),
                       .threads = kRowThreads,
                       .shared_bytes = 0,
                       .blocks_y = cuda::blocks_for(a.rows, kRowsTogether)},
                      a);
}
template void HalfWeightProduct::cuda(const cuda::Context&, const Arguments<bf16>&);
template void HalfWeightProduct::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
