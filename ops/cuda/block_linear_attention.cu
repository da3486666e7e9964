// ops/cuda/block_linear_attention.cu: tensor/cuda/gemm.h does the work. f32 or f64.
#include "ops/block_linear_steps.h"
#include "tensor/cuda/gemm.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {
namespace {

template <class T>
auto multiplier(const cuda::Context& context, const BlockLinearProblem& p) {
  return [&context, p](const BlockProduct<T>& x) {
    cuda::gemm(
        context,
        cuda::GemmArguments<T>{
            .m = x.m,
            .n = x.n,
            .k = x.k,
            .a = x.a.rows.data,
            .lda = x.a.rows.row,
            .transpose_a = x.a.transposed,
            .b = x.b.rows.data,
            .ldb = x.b.rows.row,
            .transpose_b = x.b.transposed,
            .c = x.c.data,
            .ldc = x.c.row,
            .beta = x.beta,
            .batch = {.count = p.heads, .stride_a = x.a.rows.head, .stride_b = x.b.rows.head, .stride_c = x.c.head},
            .outer_batch = {
                .count = p.batch, .stride_a = x.a.rows.batch, .stride_b = x.b.rows.batch, .stride_c = x.c.batch}});
  };
}

}  // namespace

template <class T>
void BlockLinearForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  block_linear_forward(a, multiplier<T>(context, a.problem));
}
template void BlockLinearForward::cuda(const cuda::Context&, const Arguments<float>&);
template void BlockLinearForward::cuda(const cuda::Context&, const Arguments<double>&);

template <class T>
void BlockLinearBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  block_linear_backward(a, multiplier<T>(context, a.problem));
}
template void BlockLinearBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void BlockLinearBackward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
