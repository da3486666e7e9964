// ops/cpu/matmul.cpp: tensor/cpu/gemm.h does the work; it takes the two innermost levels of a batch at once.
#include "ops/matmul.h"

#include "tensor/cpu/gemm.h"

namespace sq::kernel {
namespace {

cpu::GemmBatch batch_of(const MatrixProduct::Level& level) {
  return {.count = level.count, .stride_a = level.stride_a, .stride_b = level.stride_b, .stride_c = level.stride_c};
}

/// The products of levels[level] and all further in.
template <class T>
void multiply(const MatrixProduct::Arguments<T>& arguments, int level, const T* a, const T* b, Accumulator<T>* c) {
  const int left = arguments.level_count - level;
  if (left > 2) {
    const MatrixProduct::Level& outer = arguments.levels[static_cast<std::size_t>(level)];
    for (std::int64_t i = 0; i < outer.count; ++i)
      multiply(arguments, level + 1, a + i * outer.stride_a, b + i * outer.stride_b, c + i * outer.stride_c);
    return;
  }
  const auto transpose = [](bool yes) { return yes ? cpu::Transpose::yes : cpu::Transpose::no; };
  cpu::GemmArguments<Accumulator<T>, T, T> gemm{.m = arguments.m,
                                                .n = arguments.n,
                                                .k = arguments.k,
                                                .a = a,
                                                .lda = arguments.lda,
                                                .transpose_a = transpose(arguments.transpose_a),
                                                .b = b,
                                                .ldb = arguments.ldb,
                                                .transpose_b = transpose(arguments.transpose_b),
                                                .c = c,
                                                .ldc = std::max<std::int64_t>(arguments.n, 1),
                                                .bias = arguments.bias};
  const auto last = static_cast<std::size_t>(arguments.level_count);
  if (left >= 1) gemm.batch = batch_of(arguments.levels[last - 1]);
  if (left == 2) gemm.outer_batch = batch_of(arguments.levels[last - 2]);
  cpu::gemm(gemm);
}

}  // namespace

template <class T>
void MatrixProduct::cpu(const Arguments<T>& a) {
  multiply(a, 0, a.a, a.b, a.c);
}
template void MatrixProduct::cpu(const Arguments<float>&);
template void MatrixProduct::cpu(const Arguments<double>&);
template void MatrixProduct::cpu(const Arguments<bf16>&);
template void MatrixProduct::cpu(const Arguments<f16>&);

}  // namespace sq::kernel
