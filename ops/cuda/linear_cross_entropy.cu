// ops/cuda/linear_cross_entropy.cu: a block of positions at a time: logits (one product), losses and dlogits in place
// (one kernel), then dx and dW (one product each). Every block reads and writes all of dW, so blocks are large: at 1300
// positions of 50,000 classes and 768 features that takes about half as long as the product that fills it.
//
// Logits of 16-bit operands are f32, as the product sums them; their gradients take half the room, in the same memory.
#include "ops/cross_entropy.h"
#include "ops/cuda/cross_entropy.h"
#include "tensor/cuda/gemm.h"

#include <algorithm>

namespace sq::kernel {
namespace {

using cuda::Wide;

constexpr std::int64_t kFewLogits = std::int64_t{1} << 22, kMostLogits = std::int64_t{1} << 26, kLeastRows = 16;

std::int64_t rows_per_block(std::int64_t rows, std::int64_t columns) {
  const std::int64_t logits = std::clamp(rows * columns / 4, kFewLogits, kMostLogits);
  const std::int64_t most = std::max(logits / columns, kLeastRows), blocks = cuda::blocks_for(rows, most);
  return cuda::blocks_for(rows, blocks);  // blocks of one size rather than a small last one
}

/// An f16 holds p/n only coarsely for thousands of positions, so there 1/n comes after the products.
template <class T>
inline constexpr bool kScaledLater = std::is_same_v<T, f16>;

/// Rows of the matrix of logits, which is padded so that each begins at a multiple of 16 bytes.
template <class T>
struct LogitRows {
  std::int64_t rows, columns, step;
  Wide<T>* logits;  // in: logits, a row every `step`; out: their gradients as T, a row every `step` Wide<T>
  const std::int64_t* targets;
  std::int64_t ignore_index;
  double label_smoothing;
  const double* counted;
  Wide<T>* losses;
  bool gradients;
};

/// A block of threads a row. A gradient of half the size is written where logits lie that all threads have read: the
/// barrier stands between.
template <class T>
__global__ void __launch_bounds__(kRowThreads) losses_and_gradients(LogitRows<T> a) {
  using W = Wide<T>;
  constexpr int P = cuda::kPack<W>;
  constexpr bool kShrinks = sizeof(T) < sizeof(W);
  const std::int64_t row = cuda::block_index();
  const W* const z = a.logits + row * a.step;
  T* const dz = reinterpret_cast<T*>(a.logits + row * a.step);
  const std::int64_t target = a.targets[row];
  const bool counts = target != a.ignore_index;
  RowLoss result{0, 0};
  if (counts) result = row_loss<BlockRow>(z, a.columns, target, a.label_smoothing);
  if (cuda::thread_index() == 0) a.losses[row] = static_cast<W>(result.loss);
  if (!a.gradients) return;
  if constexpr (!kShrinks) cuda::sync_threads();  // now all have read z[target]
  const LogitGradient<W> gradient(kScaledLater<T> ? 1.0 : 1 / *a.counted, static_cast<W>(result.lse), a.label_smoothing,
                                  a.columns, target);
  for (std::int64_t first = 0; first < a.columns; first += kRowThreads * P) {
    const std::int64_t c = first + std::int64_t{cuda::thread_index()} * P;
    Values<W, P> values = {};
    if (counts && c < a.columns) values = Values<W, P>::load(z + c);  // the last pack may reach into the padding
    if constexpr (kShrinks) cuda::sync_threads();
    if (c >= a.columns) continue;
    Values<T, P> results;
#pragma unroll
    for (int i = 0; i < P; ++i) results[i] = counts && c + i < a.columns ? gradient(c + i, values[i]) : W(0);
    results.store(dz + c);
  }
}

/// y = factor · x with factor = *dy, or 1 / *counted.
template <int P, class T>
__global__ void __launch_bounds__(kRowThreads) scale(ScaledGradient::Arguments<T> a, const double* counted) {
  using W = Wide<T>;
  constexpr int kTogether = P > 1 ? cuda::kPack<W> : 1;
  const W factor = counted ? static_cast<W>(1 / *counted) : *a.dy;
  if constexpr (std::is_same_v<T, W>)
    if (factor == 1 && a.x == a.y) return;
  const std::int64_t first = cuda::global_index() * P;
  if (first >= a.count) return;
  Values<T, P> y;
#pragma unroll
  for (int k = 0; k < P; k += kTogether) {
    const auto x = Values<W, kTogether>::load(a.x + first + k);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) y[k + i] = x[i] * factor;
  }
  y.store(a.y + first);
}

template <class T>
void launch_scale(const cuda::Context& context, const ScaledGradient::Arguments<T>& a, const double* counted) {
  constexpr int P = cuda::kPack<T>;
  const bool packed = a.count % P == 0 && cuda::is_aligned(a.x) && cuda::is_aligned(a.y);
  cuda::launch_kernel(
      context, ScaledGradient::name, packed ? scale<P, T> : scale<1, T>,
      {.blocks = cuda::blocks_for(a.count, std::int64_t{kRowThreads} * (packed ? P : 1)), .threads = kRowThreads}, a,
      counted);
}

/// dx = dz W and dW = dzᵀ x, added to what earlier blocks have left.
template <class T>
void multiply_gradients(const cuda::Context& context, const LinearCrossEntropy::Arguments<T>& a, std::int64_t first,
                        std::int64_t rows, const T* dz, std::int64_t step) {
  using W = Wide<T>;
  if (a.dx) {
    cuda::GemmArguments<T, W> product{.m = rows, .n = a.width, .k = a.columns};
    product.a = dz;
    product.lda = step;
    product.b = a.weight;
    product.ldb = a.width;
    product.c = a.dx + first * a.width;
    product.ldc = a.width;
    cuda::gemm(context, product);
  }
  if (a.dweight) {
    cuda::GemmArguments<T, W> product{.m = a.columns, .n = a.width, .k = rows};
    product.a = dz;
    product.lda = step;
    product.transpose_a = true;
    product.b = a.x + first * a.width;
    product.ldb = a.width;
    product.c = a.dweight;
    product.ldc = a.width;
    product.beta = first == 0 ? 0 : 1;
    cuda::gemm(context, product);
  }
}

}  // namespace

template <class T>
void LinearCrossEntropy::cuda(const cuda::Context& context, const Arguments<T>& a) {
  using W = Wide<T>;
  constexpr std::int64_t kPadding = cuda::kPack<T>, kShrinks = sizeof(W) / sizeof(T);
  const std::int64_t most = rows_per_block(a.rows, a.columns);
  const std::int64_t step = cuda::blocks_for(a.columns, kPadding) * kPadding;
  const cuda::Buffer<W> logits(context, most * step);
  for (std::int64_t first = 0; first < a.rows; first += most) {
    const std::int64_t rows = std::min(most, a.rows - first);
    cuda::GemmArguments<T, W> product{.m = rows, .n = a.columns, .k = a.width};
    product.a = a.x + first * a.width;
    product.lda = a.width;
    product.b = a.weight;
    product.ldb = a.width;
    product.transpose_b = true;
    product.c = logits.data();
    product.ldc = step;
    cuda::gemm(context, product);
    cuda::launch_kernel(context, name, losses_and_gradients<T>, {.blocks = rows, .threads = kRowThreads},
                        LogitRows<T>{.rows = rows,
                                     .columns = a.columns,
                                     .step = step,
                                     .logits = logits.data(),
                                     .targets = a.targets + first,
                                     .ignore_index = a.ignore_index,
                                     .label_smoothing = a.label_smoothing,
                                     .counted = a.counted,
                                     .losses = a.losses + first,
                                     .gradients = a.dx || a.dweight});
    multiply_gradients(context, a, first, rows, reinterpret_cast<const T*>(logits.data()), step * kShrinks);
  }
  if constexpr (kScaledLater<T>) {
    const auto divide = [&](W* gradient, std::int64_t count) {
      const ScaledGradient::Arguments<W> all{.count = count, .x = gradient, .dy = nullptr, .y = gradient};
      if (gradient) launch_scale<W>(context, all, a.counted);
    };
    divide(a.dx, a.rows * a.width);
    divide(a.dweight, a.columns * a.width);
  }
}
template void LinearCrossEntropy::cuda(const cuda::Context&, const Arguments<float>&);
template void LinearCrossEntropy::cuda(const cuda::Context&, const Arguments<double>&);
template void LinearCrossEntropy::cuda(const cuda::Context&, const Arguments<bf16>&);
template void LinearCrossEntropy::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void ScaledGradient::cuda(const cuda::Context& context, const Arguments<T>& a) {
  launch_scale(context, a, nullptr);
}
template void ScaledGradient::cuda(const cuda::Context&, const Arguments<float>&);
template void ScaledGradient::cuda(const cuda::Context&, const Arguments<double>&);
template void ScaledGradient::cuda(const cuda::Context&, const Arguments<bf16>&);
template void ScaledGradient::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
