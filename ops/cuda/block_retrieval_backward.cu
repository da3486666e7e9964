// ops/cuda/block_retrieval_backward.cu: gradients (formulas in ops/block_retrieval.h), in the tiles of the forward
// pass, which add to dF and dh one after the other.
#include "ops/cuda/block_retrieval.h"

namespace sq::kernel {
namespace {

/// One warp a row: ds = scale · p (dp - Σ p dp) in the place of dp, 0 behind what the row sees.
template <class T>
__global__ void __launch_bounds__(kRetrievalThreads)
    make_slopes(BlockRetrievalProblem p, RetrieverTile tile, const T* __restrict__ weights, T* slopes) {
  const std::int64_t row = cuda::global_index() / cuda::kWarp;
  if (row >= p.batch * p.heads * tile.count) return;
  const T* w = weights + row * p.blocks;
  T* s = slopes + row * p.blocks;
  const std::int64_t seen = tile.seen(row % tile.count);
  T mean = 0;
  for (std::int64_t c = cuda::lane_index(); c < seen; c += cuda::kWarp) mean += w[c] * s[c];
  mean = cuda::warp_sum(mean);
  for (std::int64_t c = cuda::lane_index(); c < tile.columns; c += cuda::kWarp)
    s[c] = c < seen ? static_cast<T>(p.scale) * w[c] * (s[c] - mean) : T(0);
}

/// dp → dS, then dR = dS H and dH += dSᵀ R.
template <class T>
void send_slopes(const cuda::Context& context, std::string_view name, const BlockRetrievalBackward::Arguments<T>& a,
                 const RetrieverTile& tile, const T* weights, T* slopes) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t rows = p.batch * p.heads * tile.count;
  cuda::launch_kernel(context, name, make_slopes<T>,
                      {.blocks = cuda::blocks_for(rows * cuda::kWarp, kRetrievalThreads), .threads = kRetrievalThreads},
                      p, tile, weights, slopes);
  const Factor<const T> ds = factor<const T>(p, slopes, p.blocks, tile.count * p.blocks);
  multiply<T>(context, p, {tile.count, p.key_width, tile.columns}, ds, factor(a.h, 0), factor(a.dr, tile.first));
  multiply<T>(context, p, {tile.columns, p.key_width, tile.count, true, false, 1, 1}, ds, factor(a.r, tile.first),
              factor(a.dh, 0));
}

/// dM_c = Q_cᵀ dY_c [B,H,count,K,V] and dQ_c = dY_c M_cᵀ
template <class T>
void read_backward(const cuda::Context& context, const BlockRetrievalBackward::Arguments<T>& a,
                   const RetrieverTile& tile, T* dmixtures) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t size = p.state_size();
  for_whole_and_rest(p, tile, [&](std::int64_t block, std::int64_t count, std::int64_t positions, std::int64_t b) {
    const std::int64_t t = block * p.block;
    cuda::gemm(
        context,
        cuda::GemmArguments<T>{
            .m = p.width,
            .n = p.value_width,
            .k = positions,
            .a = a.q.at(b, 0, t),
            .lda = a.q.row,
            .transpose_a = true,
            .b = a.dy.at(b, 0, t),
            .ldb = a.dy.row,
            .c = dmixtures + (b * p.heads * tile.count + block - tile.first) * size,
            .ldc = p.value_width,
            .batch = {.count = count, .stride_a = p.block * a.q.row, .stride_b = p.block * a.dy.row, .stride_c = size},
            .outer_batch = {
                .count = p.heads, .stride_a = a.q.head, .stride_b = a.dy.head, .stride_c = tile.count * size}});
    cuda::gemm(
        context,
        cuda::GemmArguments<T>{
            .m = positions,
            .n = p.width,
            .k = p.value_width,
            .a = a.dy.at(b, 0, t),
            .lda = a.dy.row,
            .b = a.mixtures + (b * p.heads * p.blocks + block) * size,
            .ldb = p.value_width,
            .transpose_b = true,
            .c = a.dq.at(b, 0, t),
            .ldc = a.dq.row,
            .batch = {.count = count, .stride_a = p.block * a.dy.row, .stride_b = size, .stride_c = p.block * a.dq.row},
            .outer_batch = {
                .count = p.heads, .stride_a = a.dy.head, .stride_b = p.blocks * size, .stride_c = a.dq.head}});
  });
}

/// One warp a row and block: dp = ⟨dX, q⟩ with dX [B,H,count,columns·K].
template <class T>
__global__ void __launch_bounds__(kRetrievalThreads)
    weight_slopes(BlockRetrievalProblem p, RetrieverTile tile, HeadRows<const T> q, const T* __restrict__ dweighed,
                  T* slopes) {
  const std::int64_t index = cuda::global_index() / cuda::kWarp, row = index / tile.columns, head = row / tile.count;
  if (head >= p.batch * p.heads) return;
  const T* x = q.at(head / p.heads, head % p.heads, tile.first + row % tile.count);
  T sum = 0;
  for (std::int64_t c = cuda::lane_index(); c < p.width; c += cuda::kWarp) sum += dweighed[index * p.width + c] * x[c];
  sum = cuda::warp_sum(sum);
  if (cuda::lane_index() == 0) slopes[row * p.blocks + index % tile.columns] = sum;
}

/// One thread an element: dq_i = Σ_c p[i][c] dX[i][c].
template <class T>
__global__ void __launch_bounds__(kRetrievalThreads)
    query_gradient(BlockRetrievalProblem p, RetrieverTile tile, HeadRows<T> dq, const T* __restrict__ weights,
                   const T* __restrict__ dweighed) {
  const std::int64_t index = cuda::global_index(), row = index / p.width, head = row / tile.count;
  if (head >= p.batch * p.heads) return;
  T sum = 0;
  for (std::int64_t c = 0; c < tile.columns; ++c)
    sum += weights[row * p.blocks + c] * dweighed[(row * tile.columns + c) * p.width + index % p.width];
  dq.at(head / p.heads, head % p.heads, tile.first + row % tile.count)[index % p.width] = sum;
}

/// One block of all heads, each position with its own retriever. Memory: slopes and dX or X.
template <class T>
void positions_backward(const cuda::Context& context, std::string_view name,
                        const BlockRetrievalBackward::Arguments<T>& a, const RetrieverTile& tile, const T* weights,
                        T* slopes, T* weighed) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t columns = tile.columns * p.width, rows = p.batch * p.heads * tile.count;
  if (columns == 0) return;
  const Factor<T> x = factor(p, weighed, columns, tile.count * columns);
  const Factor<const T> left{x.data, x.row, x.batch, x.head};
  multiply<T>(context, p, {tile.count, columns, p.value_width, false, true}, factor(a.dy, tile.first),
              factor(p, a.states, p.value_width, p.blocks * p.state_size()), x);
  const auto grid = [](std::int64_t threads) {
    return cuda::Grid{.blocks = cuda::blocks_for(threads, kRetrievalThreads), .threads = kRetrievalThreads};
  };
  cuda::launch_kernel(context, name, weight_slopes<T>, grid(rows * tile.columns * cuda::kWarp), p, tile, a.q, weighed,
                      slopes);
  cuda::launch_kernel(context, name, query_gradient<T>, grid(rows * p.width), p, tile, a.dq, weights, weighed);
  make_weighed(context, name, p, tile, a.q, weights, weighed);
  multiply<T>(context, p, {columns, p.value_width, tile.count, true, false, 1, 1}, left, factor(a.dy, tile.first),
              factor(p, a.dstates, p.value_width, p.blocks * p.state_size()));
  send_slopes(context, name, a, tile, weights, slopes);
}

/// 64 blocks of all heads.
template <class T>
void tile_backward(const cuda::Context& context, std::string_view name, const BlockRetrievalBackward::Arguments<T>& a,
                   const RetrieverTile& tile, const T* weights, T* slopes, T* dmixtures) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t size = p.state_size();
  read_backward(context, a, tile, dmixtures);
  const Factor<const T> dm = factor<const T>(p, dmixtures, size, tile.count * size);
  multiply<T>(context, p, {tile.count, tile.columns, size, false, true}, dm, factor(p, a.states, size, p.blocks * size),
              factor(p, slopes, p.blocks, tile.count * p.blocks));
  send_slopes(context, name, a, tile, weights, slopes);
  multiply<T>(context, p, {tile.columns, size, tile.count, true, false, 1, 1},
              factor(p, weights, p.blocks, tile.count * p.blocks), dm, factor(p, a.dstates, size, p.blocks * size));
}

}  // namespace

template <class T>
void BlockRetrievalBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t rows = p.batch * p.heads * p.weight_rows();
  const cuda::Buffer<T> weights(context, rows * p.blocks), slopes(context, rows * p.blocks);
  const cuda::Buffer<T> rest(context, rows * (p.per_position ? p.blocks * p.width : p.state_size()));
  for (std::int64_t n = 0; n < RetrieverTile::tiles(p); ++n) {
    const RetrieverTile tile(p, n);
    make_weights(context, name, p, tile, a.r, a.h, weights.data());
    const T* made = weights.data();
    if (p.per_position)
      positions_backward(context, name, a, tile, made, slopes.data(), rest.data());
    else
      tile_backward(context, name, a, tile, made, slopes.data(), rest.data());
  }
}
template void BlockRetrievalBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void BlockRetrievalBackward::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
