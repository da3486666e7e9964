// ops/cpu/half_linear.cpp: tensor/cpu/gemm.h multiplies an f32 matrix by one of 16 bits as they lie.
#include "ops/half_linear.h"

#include "tensor/cpu/gemm.h"

#include <algorithm>

namespace sq::kernel {

template <class T>
void HalfWeightProduct::cpu(const Arguments<T>& a) {
  const auto row = [](std::int64_t length) { return std::max<std::int64_t>(length, 1); };
  cpu::gemm(cpu::GemmArguments<float, float, T>{.m = a.rows,
                                                .n = a.out,
                                                .k = a.in,
                                                .a = a.x,
                                                .lda = row(a.in),
                                                .b = a.weight,
                                                .ldb = row(a.transposed ? a.in : a.out),
                                                .transpose_b = a.transposed ? cpu::Transpose::yes : cpu::Transpose::no,
                                                .c = a.y,
                                                .ldc = row(a.out),
                                                .bias = a.bias});
}
template void HalfWeightProduct::cpu(const Arguments<bf16>&);
template void HalfWeightProduct::cpu(const Arguments<f16>&);

}  // namespace sq::kernel
