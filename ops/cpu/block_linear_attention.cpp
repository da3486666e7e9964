// ops/cpu/block_linear_attention.cpp: tensor/cpu/gemm.h does the work.
#include "ops/block_linear_steps.h"
#include "tensor/cpu/gemm.h"

namespace sq::kernel {
namespace {

template <class T>
auto multiplier(const BlockLinearProblem& p) {
  const auto transpose = [](bool yes) { return yes ? cpu::Transpose::yes : cpu::Transpose::no; };
  return [p, transpose](const BlockProduct<T>& x) {
    cpu::gemm(cpu::GemmArguments<T>{
        .m = x.m,
        .n = x.n,
        .k = x.k,
        .a = x.a.rows.data,
        .lda = x.a.rows.row,
        .transpose_a = transpose(x.a.transposed),
        .b = x.b.rows.data,
        .ldb = x.b.rows.row,
        .transpose_b = transpose(x.b.transposed),
        .c = x.c.data,
        .ldc = x.c.row,
        .beta = static_cast<T>(x.beta),
        .batch = {.count = p.heads, .stride_a = x.a.rows.head, .stride_b = x.b.rows.head, .stride_c = x.c.head},
        .outer_batch = {
            .count = p.batch, .stride_a = x.a.rows.batch, .stride_b = x.b.rows.batch, .stride_c = x.c.batch}});
  };
}

}  // namespace

template <class T>
void BlockLinearForward::cpu(const Arguments<T>& a) {
  block_linear_forward(a, multiplier<T>(a.problem));
}
template void BlockLinearForward::cpu(const Arguments<float>&);
template void BlockLinearForward::cpu(const Arguments<double>&);

template <class T>
void BlockLinearBackward::cpu(const Arguments<T>& a) {
  block_linear_backward(a, multiplier<T>(a.problem));
}
template void BlockLinearBackward::cpu(const Arguments<float>&);
template void BlockLinearBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
