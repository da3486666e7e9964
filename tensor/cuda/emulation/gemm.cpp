// tensor/cuda/emulation/gemm.cpp: the CPU's product on emulated device memory.
#include "tensor/cuda/gemm.h"

#include "tensor/cpu/gemm.h"
#include "tensor/cuda/emulation/block.h"

#include <vector>

namespace sq::cuda {
namespace {

cpu::Transpose transpose(bool yes) { return yes ? cpu::Transpose::yes : cpu::Transpose::no; }
cpu::GemmBatch batch(const GemmBatch& level) { return {level.count, level.stride_a, level.stride_b, level.stride_c}; }

/// How many elements lie between the first and the last of all matrices of an operand, both included.
std::int64_t span(std::int64_t rows, std::int64_t columns, std::int64_t step, std::int64_t count, std::int64_t stride,
                  std::int64_t outer_count, std::int64_t outer_stride) {
  if (rows == 0 || columns == 0 || count == 0 || outer_count == 0) return 0;
  return (outer_count - 1) * outer_stride + (count - 1) * stride + (rows - 1) * step + columns;
}

template <class To, class From>
std::vector<To> copied(const From* from, std::int64_t count) {
  const emulation::DeviceAccess access;
  return std::vector<To>(from, from + count);
}

}  // namespace

// The workers of the CPU's product may not touch the device: it works on copies. A 16-bit C is f32 there, and is
// rounded once.
template <class T, class C>
void gemm(const Context&, const GemmArguments<T, C>& g) {
  using Sum = Accumulator<C>;
  const GemmBatch &in = g.batch, &out = g.outer_batch;
  const bool empty = g.k == 0;
  const std::vector<T> a = copied<T>(g.a, empty ? 0
                                                : span(g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, g.lda,
                                                       in.count, in.stride_a, out.count, out.stride_a));
  const std::vector<T> b = copied<T>(g.b, empty ? 0
                                                : span(g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, g.ldb,
                                                       in.count, in.stride_b, out.count, out.stride_b));
  std::vector<Sum> c = copied<Sum>(g.c, span(g.m, g.n, g.ldc, in.count, in.stride_c, out.count, out.stride_c));
  const std::vector<Sum> bias = copied<Sum>(g.bias, g.bias ? g.n : 0);
  cpu::gemm(cpu::GemmArguments<Sum, T, T>{.m = g.m,
                                          .n = g.n,
                                          .k = g.k,
                                          .a = a.data(),
                                          .lda = g.lda,
                                          .transpose_a = transpose(g.transpose_a),
                                          .b = b.data(),
                                          .ldb = g.ldb,
                                          .transpose_b = transpose(g.transpose_b),
                                          .c = c.data(),
                                          .ldc = g.ldc,
                                          .alpha = static_cast<Sum>(g.alpha),
                                          .beta = static_cast<Sum>(g.beta),
                                          .bias = g.bias ? bias.data() : nullptr,
                                          .batch = batch(in),
                                          .outer_batch = batch(out)});
  const emulation::DeviceAccess access;
  for (std::size_t i = 0; i < c.size(); ++i) g.c[i] = C(c[i]);
}

template void gemm(const Context&, const GemmArguments<float, float>&);
template void gemm(const Context&, const GemmArguments<double, double>&);
template void gemm(const Context&, const GemmArguments<bf16, bf16>&);
template void gemm(const Context&, const GemmArguments<bf16, float>&);
template void gemm(const Context&, const GemmArguments<f16, f16>&);
template void gemm(const Context&, const GemmArguments<f16, float>&);

}  // namespace sq::cuda
