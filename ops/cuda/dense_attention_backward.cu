// ops/cuda/dense_attention_backward.cu: attention_backward.h says how, dense_pairs.h for which pairs.
#include "ops/cuda/attention_backward.h"
#include "ops/cuda/dense_pairs.h"
#include "ops/dense_attention.h"

namespace sq::kernel {

template <class T>
void DenseAttentionBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const DenseAttentionProblem& p = a.problem;
  const bool aligned =
      rows_aligned({a.q, a.k, a.v, a.dy, constant(a.dq), constant(a.dk), constant(a.dv)}, p.width, p.value_width);
  const AttentionSizes sizes = attention_sizes(p, aligned);
  const cuda::Buffer<Wide<T>> delta(context, p.batch * p.heads * p.queries);
  launch_delta<T>(context, name, sizes, a.y, a.dy, delta.data());
  const BackwardTask<T> task{.s = sizes,
                             .q = {a.q, {}},
                             .k = a.k,
                             .v = a.v,
                             .dy = a.dy,
                             .log_sums = a.log_sums,
                             .delta = delta.data(),
                             .dq = {a.dq, {}},
                             .dk = a.dk,
                             .dv = a.dv,
                             .partial = nullptr,
                             .slots = 0};
  constexpr int kRows = AttentionTile<T, 64>::rows;
  launch_backward_queries(context, name, task, KeysOfQueries<kRows>{DensePairs(p)});
  launch_backward_keys(context, name, task, QueriesOfKeys<kRows>{DensePairs(p)}, cuda::blocks_for(p.keys, kRows));
}
template void DenseAttentionBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void DenseAttentionBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void DenseAttentionBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void DenseAttentionBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
