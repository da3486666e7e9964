// ops/cuda/neighbor_attention.cu: the forward pass. attention_forward.h says how: columns, which several queries of a
// tile read, are tiles of matrix products; the rest is read row by row where it lies. listed_pairs.h for which pairs.
#include "ops/cuda/attention_forward.h"
#include "ops/cuda/listed_pairs.h"
#include "ops/neighbor_attention.h"

namespace sq::kernel {

template <class T>
void NeighborAttentionForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const NeighborAttentionProblem& p = a.problem;
  const bool aligned = rows_aligned({a.q, a.plain_q, a.k, a.v, constant(a.y)}, p.width, p.value_width);
  const ForwardTask<T> task{
      .s = attention_sizes(p, aligned), .q = {a.q, a.plain_q}, .k = a.k, .v = a.v, .y = a.y, .log_sums = a.log_sums};
  const NeighborDevicePlan& plan = *a.device_plan;
  launch_forward(context, name, task, ListedKeys{{ListedTiles(plan.keys), ListedTiles(plan.plain_keys)}});
}
template void NeighborAttentionForward::cuda(const cuda::Context&, const Arguments<float>&);
template void NeighborAttentionForward::cuda(const cuda::Context&, const Arguments<double>&);
template void NeighborAttentionForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void NeighborAttentionForward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
