// ops/cuda/block_retrieval.cu: the forward pass, 64 blocks of all heads at a time, or one block where every position
// has a retriever of its own.
#include "ops/cuda/block_retrieval.h"

namespace sq::kernel {
namespace {

/// Y_c = Q_c M_c for the blocks of a tile.
template <class T>
void read(const cuda::Context& context, const BlockRetrievalForward::Arguments<T>& a, const RetrieverTile& tile) {
  const BlockRetrievalProblem& p = a.problem;
  for_whole_and_rest(p, tile, [&](std::int64_t block, std::int64_t count, std::int64_t positions, std::int64_t b) {
    const std::int64_t size = p.state_size();
    cuda::gemm(
        context,
        cuda::GemmArguments<T>{
            .m = positions,
            .n = p.value_width,
            .k = p.width,
            .a = a.q.at(b, 0, block * p.block),
            .lda = a.q.row,
            .b = a.mixtures + (b * p.heads * p.blocks + block) * size,
            .ldb = p.value_width,
            .c = a.y.at(b, 0, block * p.block),
            .ldc = a.y.row,
            .batch = {.count = count, .stride_a = p.block * a.q.row, .stride_b = size, .stride_c = p.block * a.y.row},
            .outer_batch = {
                .count = p.heads, .stride_a = a.q.head, .stride_b = p.blocks * size, .stride_c = a.y.head}});
  });
}

}  // namespace

template <class T>
void BlockRetrievalForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t heads = p.batch * p.heads, rows = p.weight_rows(), size = p.state_size();
  const cuda::Buffer<T> weights(context, heads * rows * p.blocks);
  const cuda::Buffer<T> weighed(context, p.per_position ? heads * rows * p.blocks * p.width : 1);
  const Factor<const T> states = factor(p, a.states, size, p.blocks * size);
  for (std::int64_t n = 0; n < RetrieverTile::tiles(p); ++n) {
    const RetrieverTile tile(p, n);
    make_weights(context, name, p, tile, a.r, a.h, weights.data());
    if (p.per_position) {
      const std::int64_t columns = tile.columns * p.width;
      make_weighed<T>(context, name, p, tile, a.q, weights.data(), weighed.data());
      multiply<T>(context, p, {tile.count, p.value_width, columns},
                  factor<const T>(p, weighed.data(), std::max<std::int64_t>(columns, 1), tile.count * columns),
                  factor(p, a.states, p.value_width, p.blocks * size), factor(a.y, tile.first));
    } else {
      multiply<T>(context, p, {tile.count, size, tile.columns},
                  factor<const T>(p, weights.data(), p.blocks, tile.count * p.blocks), states,
                  factor(p, a.mixtures + tile.first * size, size, p.blocks * size));
      read(context, a, tile);
    }
  }
}
template void BlockRetrievalForward::cuda(const cuda::Context&, const Arguments<float>&);
template void BlockRetrievalForward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
