// ops/cuda/block_retrieval.h: what the forward and the backward kernels of block retrieval share. As on the CPU, nearly
// all work are matrix products, here of all heads at once; small kernels make the weights between them. f32 or f64.
#pragma once

#include "ops/block_retrieval.h"
#include "tensor/cuda/gemm.h"
#include "tensor/cuda/kernel.h"

namespace sq::kernel {

constexpr int kRetrievalThreads = 256;

/// Retrievers [first, first + count) of every head, as in ops/cpu/retrieval-inl.h: they see `columns` blocks, or with a
/// retriever a block, number i sees first + i. Their weights [B,H,count,n].
struct RetrieverTile {
  std::int64_t first, count, columns;
  bool per_position;

  RetrieverTile(const BlockRetrievalProblem& p, std::int64_t tile) : per_position(p.per_position) {
    const std::int64_t step = p.per_position ? p.block : BlockRetrievalProblem::kRows;
    const std::int64_t all = p.per_position ? p.positions : p.blocks;
    first = tile * step;
    count = all - first < step ? all - first : step;
    columns = p.per_position ? tile : first + count - 1;
  }
  constexpr std::int64_t seen(std::int64_t i) const { return per_position ? columns : first + i; }

  static std::int64_t tiles(const BlockRetrievalProblem& p) {
    return p.per_position ? p.blocks : (p.blocks + BlockRetrievalProblem::kRows - 1) / BlockRetrievalProblem::kRows;
  }
};

/// One operand of a product of all heads: rows with distances between batches and heads.
template <class T>
struct Factor {
  T* data;
  std::int64_t row, batch, head;
};
template <class T>
Factor<T> factor(const HeadRows<T>& rows, std::int64_t first) {
  return {rows.at(0, 0, first), rows.row, rows.batch, rows.head};
}
/// Packed rows, `size` elements a head.
template <class T>
Factor<T> factor(const BlockRetrievalProblem& p, T* data, std::int64_t row, std::int64_t size) {
  return {data, row, p.heads * size, size};
}

struct Sizes {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
};
template <class T>
void multiply(const cuda::Context& context, const BlockRetrievalProblem& p, const Sizes& s, const Factor<const T>& a,
              const Factor<const T>& b, const Factor<T>& c) {
  cuda::gemm(context,
             cuda::GemmArguments<T>{
                 .m = s.m,
                 .n = s.n,
                 .k = s.k,
                 .a = a.data,
                 .lda = a.row,
                 .transpose_a = s.transpose_a,
                 .b = b.data,
                 .ldb = b.row,
                 .transpose_b = s.transpose_b,
                 .c = c.data,
                 .ldc = c.row,
                 .alpha = s.alpha,
                 .beta = s.beta,
                 .batch = {.count = p.heads, .stride_a = a.head, .stride_b = b.head, .stride_c = c.head},
                 .outer_batch = {.count = p.batch, .stride_a = a.batch, .stride_b = b.batch, .stride_c = c.batch}});
}

/// One warp a row: scores become p = softmax over the blocks that the row sees and that exist, 0 behind them.
template <class T>
__global__ void __launch_bounds__(kRetrievalThreads)
    retrieval_softmax(BlockRetrievalProblem p, RetrieverTile tile, T* weights) {
  const std::int64_t row = cuda::global_index() / cuda::kWarp, head = row / tile.count;
  if (head >= p.batch * p.heads) return;
  const std::uint8_t* exists = p.exists == nullptr ? nullptr : p.exists + head / p.heads * p.blocks;
  const std::int64_t seen = tile.seen(row % tile.count);
  T* w = weights + row * p.blocks;
  const auto there = [&](std::int64_t c) { return exists == nullptr || exists[c] != 0; };
  T most = -cuda::infinity<T>(), total = 0;
  for (std::int64_t c = cuda::lane_index(); c < seen; c += cuda::kWarp)
    if (there(c)) most = cuda::larger(most, w[c]);
  most = cuda::warp_max(most);
  for (std::int64_t c = cuda::lane_index(); c < seen; c += cuda::kWarp)
    if (there(c)) total += cuda::exp(w[c] - most);
  total = cuda::warp_sum(total);
  for (std::int64_t c = cuda::lane_index(); c < tile.columns; c += cuda::kWarp)
    w[c] = c < seen && there(c) ? cuda::exp(w[c] - most) / total : T(0);
}

/// The weights of a tile.
template <class T>
void make_weights(const cuda::Context& context, std::string_view name, const BlockRetrievalProblem& p,
                  const RetrieverTile& tile, const HeadRows<const T>& r, const HeadRows<const T>& h, T* weights) {
  multiply<T>(context, p, {tile.count, tile.columns, p.key_width, false, true, p.scale, 0}, factor(r, tile.first),
              factor(h, 0), factor(p, weights, p.blocks, tile.count * p.blocks));
  const std::int64_t rows = p.batch * p.heads * tile.count;
  cuda::launch_kernel(context, name, retrieval_softmax<T>,
                      {.blocks = cuda::blocks_for(rows * cuda::kWarp, kRetrievalThreads), .threads = kRetrievalThreads},
                      p, tile, weights);
}

/// One thread an element: weighed[head][i][c·K + a] = p[i][c] q_i[a] for the blocks that the positions of a tile see.
template <class T>
__global__ void __launch_bounds__(kRetrievalThreads)
    weigh_queries(BlockRetrievalProblem p, RetrieverTile tile, HeadRows<const T> q, const T* __restrict__ weights,
                  T* weighed) {
  const std::int64_t index = cuda::global_index(), columns = tile.columns * p.width;
  const std::int64_t row = index / columns, head = row / tile.count, column = index % columns;
  if (head >= p.batch * p.heads) return;
  weighed[index] = weights[row * p.blocks + column / p.width] *
                   q.at(head / p.heads, head % p.heads, tile.first + row % tile.count)[column % p.width];
}

template <class T>
void make_weighed(const cuda::Context& context, std::string_view name, const BlockRetrievalProblem& p,
                  const RetrieverTile& tile, const HeadRows<const T>& q, const T* weights, T* weighed) {
  const std::int64_t count = p.batch * p.heads * tile.count * tile.columns * p.width;
  cuda::launch_kernel(context, name, weigh_queries<T>,
                      {.blocks = cuda::blocks_for(count, kRetrievalThreads), .threads = kRetrievalThreads}, p, tile, q,
                      weights, weighed);
}

/// body(first block, blocks, positions of each, batch row): all of a tile are whole but perhaps the last one.
template <class Body>
void for_whole_and_rest(const BlockRetrievalProblem& p, const RetrieverTile& tile, Body body) {
  const std::int64_t all = p.positions / p.block, end = tile.first + tile.count;
  const std::int64_t whole = (end < all ? end : all) - tile.first;
  for (std::int64_t b = 0; b < p.batch; ++b) {
    if (whole > 0) body(tile.first, whole, p.block, b);
    if (whole < tile.count) body(tile.first + whole, 1, p.positions_of(tile.first + whole, tile.first + whole + 1), b);
  }
}

}  // namespace sq::kernel
