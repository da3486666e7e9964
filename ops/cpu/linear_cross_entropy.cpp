// ops/cpu/linear_cross_entropy.cpp: a block of positions at a time: logits (one product), losses and dlogits in place,
// then dx and dW (one product each).
#include "ops/cross_entropy.h"
#include "ops/gradient_norm.h"
#include "tensor/cpu/gemm.h"

#include <algorithm>

namespace sq::kernel {
namespace {

// Every product reads all of W again, so a block of few positions runs at the speed of memory: 64 rows cost half as
// much again as 256, more than 256 gain little.
constexpr std::int64_t kEnoughRows = 256, kLeastRows = 16;
constexpr std::int64_t kFewLogits = std::int64_t{1} << 22, kMostLogits = std::int64_t{1} << 24;

std::int64_t rows_per_block(std::int64_t rows, std::int64_t columns) {
  const std::int64_t most = std::max({kFewLogits / columns, std::min(kEnoughRows, kMostLogits / columns), kLeastRows});
  const std::int64_t blocks = (rows + most - 1) / most;
  return (rows + blocks - 1) / blocks;  // blocks of one size rather than a small last one
}

}  // namespace

template <class T>
void LinearCrossEntropy::cpu(const Arguments<T>& a) {
  const std::int64_t step = rows_per_block(a.rows, a.columns);
  const TensorOptions options{.dtype = dtype_of<T>()};
  Tensor logits = Tensor::empty({step, a.columns}, options), lse = Tensor::empty({step}, options);
  T* const z = logits.data<T>();
  for (std::int64_t first = 0; first < a.rows; first += step) {
    const std::int64_t rows = std::min(step, a.rows - first);
    const T* x = a.x + first * a.width;
    cpu::gemm(cpu::GemmArguments<T>{.m = rows,
                                    .n = a.columns,
                                    .k = a.width,
                                    .a = x,
                                    .lda = a.width,
                                    .b = a.weight,
                                    .ldb = a.width,
                                    .transpose_b = cpu::Transpose::yes,
                                    .c = z,
                                    .ldc = a.columns});
    CrossEntropyForward::cpu<T>({.rows = rows,
                                 .columns = a.columns,
                                 .logits = z,
                                 .targets = a.targets + first,
                                 .ignore_index = a.ignore_index,
                                 .label_smoothing = a.label_smoothing,
                                 .losses = a.losses + first,
                                 .lse = lse.data<T>()});
    if (!a.dx && !a.dweight) continue;
    CrossEntropyBackward::cpu<T>({.rows = rows,
                                  .columns = a.columns,
                                  .logits = z,
                                  .targets = a.targets + first,
                                  .ignore_index = a.ignore_index,
                                  .label_smoothing = a.label_smoothing,
                                  .lse = lse.data<T>(),
                                  .counted = a.counted,
                                  .dy = nullptr,
                                  .dlogits = z});
    if (a.dx)  // dx = dz W
      cpu::gemm(cpu::GemmArguments<T>{.m = rows,
                                      .n = a.width,
                                      .k = a.columns,
                                      .a = z,
                                      .lda = a.columns,
                                      .b = a.weight,
                                      .ldb = a.width,
                                      .c = a.dx + first * a.width,
                                      .ldc = a.width});
    if (a.dweight)  // dW = dzᵀ x, summed over the blocks
      cpu::gemm(cpu::GemmArguments<T>{.m = a.columns,
                                      .n = a.width,
                                      .k = rows,
                                      .a = z,
                                      .lda = a.columns,
                                      .transpose_a = cpu::Transpose::yes,
                                      .b = x,
                                      .ldb = a.width,
                                      .c = a.dweight,
                                      .ldc = a.width,
                                      .beta = first == 0 ? T{0} : T{1}});
  }
}

template void LinearCrossEntropy::cpu(const Arguments<float>&);
template void LinearCrossEntropy::cpu(const Arguments<double>&);

template <class T>
void ScaledGradient::cpu(const Arguments<T>& a) {
  if (a.y != a.x) std::copy_n(a.x, a.count, a.y);
  if (*a.dy != 1) Scale::cpu<T>({.count = a.count, .factor = static_cast<double>(*a.dy), .x = a.y});
}
template void ScaledGradient::cpu(const Arguments<float>&);
template void ScaledGradient::cpu(const Arguments<double>&);

}  // namespace sq::kernel
