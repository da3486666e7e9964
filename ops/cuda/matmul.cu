// ops/cuda/matmul.cu: tensor/cuda/gemm.h does the work; it takes the two innermost levels of a batch at once.
#include "ops/matmul.h"
#include "tensor/cuda/gemm.h"

#include <algorithm>

namespace sq::kernel {
namespace {

cuda::GemmBatch batch_of(const MatrixProduct::Level& level) {
  return {.count = level.count, .stride_a = level.stride_a, .stride_b = level.stride_b, .stride_c = level.stride_c};
}

/// The products of levels[level] and all further in.
template <class T, class C>
void multiply(const cuda::Context& context, const MatrixProduct::Arguments<T>& arguments, int level, const T* a,
              const T* b, C* c, const C* bias) {
  const int left = arguments.level_count - level;
  if (left > 2) {
    const MatrixProduct::Level& outer = arguments.levels[static_cast<std::size_t>(level)];
    for (std::int64_t i = 0; i < outer.count; ++i)
      multiply(context, arguments, level + 1, a + i * outer.stride_a, b + i * outer.stride_b, c + i * outer.stride_c,
               bias);
    return;
  }
  cuda::GemmArguments<T, C> gemm{.m = arguments.m, .n = arguments.n, .k = arguments.k};
  gemm.a = a;
  gemm.lda = arguments.lda;
  gemm.transpose_a = arguments.transpose_a;
  gemm.b = b;
  gemm.ldb = arguments.ldb;
  gemm.transpose_b = arguments.transpose_b;
  gemm.c = c;
  gemm.ldc = std::max<std::int64_t>(arguments.n, 1);
  gemm.bias = bias;
  const auto last = static_cast<std::size_t>(arguments.level_count);
  if (left >= 1) gemm.batch = batch_of(arguments.levels[last - 1]);
  if (left == 2) gemm.outer_batch = batch_of(arguments.levels[last - 2]);
  cuda::gemm(context, gemm);
}

}  // namespace

template <class T>
void MatrixProduct::cuda(const cuda::Context& context, const Arguments<T>& a) {
  if (a.c)
    multiply(context, a, 0, a.a, a.b, a.c, a.bias);
  else
    multiply(context, a, 0, a.a, a.b, a.rounded, a.rounded_bias);
}
template void MatrixProduct::cuda(const cuda::Context&, const Arguments<float>&);
template void MatrixProduct::cuda(const cuda::Context&, const Arguments<double>&);
template void MatrixProduct::cuda(const cuda::Context&, const Arguments<bf16>&);
template void MatrixProduct::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
