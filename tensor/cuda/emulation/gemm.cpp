// tensor/cuda/emulation/gemm.cpp: the CPU's product on emulated device memory.
#include "tensor/cuda/gemm.h"

#include "tensor/cpu/gemm.h"
#include "tensor/cuda/emulation/block.h"

#include <vector>

namespace sq::cuda {
namespace {

cpu::Transpose transpose(bool yes) { return yes ? cpu::Transpose::yes : cpu::Transpose::no; }
cpu::GemmBatch batch(const GemmBatch& level) { return {level.count, level.stride_a, level.stride_b, level.stride_c}; }

template <class T, class C>
cpu::GemmArguments<C, T, T> on_cpu(const GemmArguments<T, C>& g) {
  return {.m = g.m,
          .n = g.n,
          .k = g.k,
          .a = g.a,
          .lda = g.lda,
          .transpose_a = transpose(g.transpose_a),
          .b = g.b,
          .ldb = g.ldb,
          .transpose_b = transpose(g.transpose_b),
          .c = g.c,
          .ldc = g.ldc,
          .alpha = static_cast<C>(g.alpha),
          .beta = static_cast<C>(g.beta),
          .bias = g.bias,
          .batch = batch(g.batch),
          .outer_batch = batch(g.outer_batch)};
}

/// A 16-bit C: the product in f32 beside it, rounded once.
template <class T>
void multiply_rounded(const GemmArguments<T, T>& g) {
  const std::int64_t size = g.m * g.n;
  std::vector<float> c(static_cast<std::size_t>(size)), bias;
  if (g.bias) bias.assign(g.bias, g.bias + g.n);
  for (std::int64_t outer = 0; outer < g.outer_batch.count; ++outer)
    for (std::int64_t inner = 0; inner < g.batch.count; ++inner) {
      T* target = g.c + outer * g.outer_batch.stride_c + inner * g.batch.stride_c;
      if (g.beta != 0)
        for (std::int64_t i = 0; i < size; ++i) c[static_cast<std::size_t>(i)] = target[i / g.n * g.ldc + i % g.n];
      GemmArguments<T, float> one{.m = g.m, .n = g.n, .k = g.k};
      one.a = g.a + outer * g.outer_batch.stride_a + inner * g.batch.stride_a;
      one.lda = g.lda;
      one.transpose_a = g.transpose_a;
      one.b = g.b + outer * g.outer_batch.stride_b + inner * g.batch.stride_b;
      one.ldb = g.ldb;
      one.transpose_b = g.transpose_b;
      one.c = c.data();
      one.ldc = std::max<std::int64_t>(g.n, 1);
      one.alpha = g.alpha;
      one.beta = g.beta;
      one.bias = g.bias ? bias.data() : nullptr;
      cpu::gemm(on_cpu(one));
      for (std::int64_t i = 0; i < size; ++i) target[i / g.n * g.ldc + i % g.n] = T(c[static_cast<std::size_t>(i)]);
    }
}

}  // namespace

template <class T, class C>
void gemm(const Context&, const GemmArguments<T, C>& g) {
  const emulation::DeviceAccess access;
  if constexpr (std::is_same_v<C, float> || std::is_same_v<C, double>)
    cpu::gemm(on_cpu(g));
  else
    multiply_rounded(g);
}

template void gemm(const Context&, const GemmArguments<float, float>&);
template void gemm(const Context&, const GemmArguments<double, double>&);
template void gemm(const Context&, const GemmArguments<bf16, bf16>&);
template void gemm(const Context&, const GemmArguments<bf16, float>&);
template void gemm(const Context&, const GemmArguments<f16, f16>&);
template void gemm(const Context&, const GemmArguments<f16, float>&);

}  // namespace sq::cuda
