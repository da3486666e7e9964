// ops/cuda/dense_attention.cu: the forward pass. attention_forward.h says how, dense_pairs.h for which pairs.
#include "ops/cuda/attention_forward.h"
#include "ops/cuda/dense_pairs.h"
#include "ops/dense_attention.h"

namespace sq::kernel {

template <class T>
void DenseAttentionForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const DenseAttentionProblem& p = a.problem;
  const bool aligned = rows_aligned({a.q, a.k, a.v, constant(a.y)}, p.width, p.value_width);
  const ForwardTask<T> task{
      .s = attention_sizes(p, aligned), .q = {a.q, {}}, .k = a.k, .v = a.v, .y = a.y, .log_sums = a.log_sums};
  launch_forward(context, name, task, KeysOfQueries<AttentionTile<T, 64>::rows>{DensePairs(p)});
}
template void DenseAttentionForward::cuda(const cuda::Context&, const Arguments<float>&);
template void DenseAttentionForward::cuda(const cuda::Context&, const Arguments<double>&);
template void DenseAttentionForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void DenseAttentionForward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
