// ops/cuda/neighbor_attention_backward.cu: attention_backward.h says how, listed_pairs.h for which pairs. By queries
// over the list, by keys over the reversed list of all pairs: unlike on the CPU, making weights twice costs less here
// than segments of queries, which would leave most of a GPU idle. Tiles of keys that very many queries list come in
// parts, whose sums are added up in order at the end.
#include "ops/cuda/attention_backward.h"
#include "ops/cuda/listed_pairs.h"
#include "ops/neighbor_attention.h"

namespace sq::kernel {
namespace {

/// dK and dV of the tiles that came in parts: a block for each such tile, key/value head and batch row.
template <class T>
__global__ void __launch_bounds__(256) add_parts(BackwardTask<T> a, const std::int32_t* splits) {
  const AttentionSizes& s = a.s;
  const std::int32_t* split = splits + cuda::block_index() * 3;
  const std::int64_t kv_head = cuda::block_index(1), b = cuda::block_index(2);
  const int width = s.width + s.value_width;
  const std::int64_t slot_size = std::int64_t{ListedTiles::kRows} * width;
  const Wide<T>* from = a.partial + ((b * s.kv_heads + kv_head) * a.slots + split[1]) * slot_size;
  for (int i = cuda::thread_index(); i < ListedTiles::kRows * width; i += cuda::thread_count()) {
    const std::int64_t key = std::int64_t{split[0]} * ListedTiles::kRows + i / width;
    if (key >= s.keys) return;
    Wide<T> sum = 0;
    for (int n = 0; n < split[2]; ++n) sum += from[n * slot_size + i];
    const int column = i % width;
    if (column < s.width) {
      if (a.dk) cuda::store(a.dk.at(b, kv_head, key) + column, sum);
    } else if (a.dv) {
      cuda::store(a.dv.at(b, kv_head, key) + column - s.width, sum);
    }
  }
}

}  // namespace

template <class T>
void NeighborAttentionBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const NeighborAttentionProblem& p = a.problem;
  const bool aligned = rows_aligned(
      {a.q, a.plain_q, a.k, a.v, a.dy, constant(a.dq), constant(a.dplain_q), constant(a.dk), constant(a.dv)}, p.width,
      p.value_width);
  const AttentionSizes sizes = attention_sizes(p, aligned);
  launch_delta<T>(context, name, sizes, a.y, a.dy, a.delta);
  const NeighborDevicePlan& plan = *a.device_plan;
  const std::int64_t slots = plan.parts.slots;
  const cuda::Buffer<Wide<T>> partial(context,
                                      p.batch * p.kv_heads * slots * ListedTiles::kRows * (p.width + p.value_width));
  const BackwardTask<T> task{.s = sizes,
                             .q = {a.q, a.plain_q},
                             .k = a.k,
                             .v = a.v,
                             .dy = a.dy,
                             .log_sums = a.log_sums,
                             .delta = a.delta,
                             .dq = {a.dq, a.dplain_q},
                             .dk = a.dk,
                             .dv = a.dv,
                             .partial = partial.data(),
                             .slots = slots};
  launch_backward_queries(context, name, task, ListedKeys{{ListedTiles(plan.keys), ListedTiles(plan.plain_keys)}});
  if (!a.dk && !a.dv) return;
  using Queries = ListedQueries<AttentionTile<T, 64>::rows>;
  const Queries queries{{ListedTiles(plan.queries), ListedTiles(plan.plain_queries)},
                        plan.device_parts.template data<std::int32_t>()};
  launch_backward_keys(context, name, task, queries, plan.parts.part_count() * Queries::kBlocks);
  cuda::launch_kernel(context, name, add_parts<T>,
                      {.blocks = plan.parts.split_count(), .blocks_y = p.kv_heads, .blocks_z = p.batch}, task,
                      plan.device_splits.template data<std::int32_t>());
}
template void NeighborAttentionBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void NeighborAttentionBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void NeighborAttentionBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void NeighborAttentionBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
