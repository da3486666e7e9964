// ops/cuda/delta_rule.h: what the forward and the backward kernels of the delta rule share beside what linear attention
// has: where they keep what they hand on, and the columns of a state that one block follows from chunk to chunk.
#pragma once

#include "ops/cuda/linear_attention.h"
#include "ops/delta_rule.h"

namespace sq::kernel {

constexpr int kStateColumns = 8;  // columns of V: few, because the chunks of a head wait for one another

/// β of a chunk's positions.
template <class T>
__device__ inline const T* beta_of(const LinearAttentionProblem& p, const T* beta, const LinearBlock<T>& chunk) {
  return beta + (chunk.b * p.heads + chunk.h) * p.positions + chunk.first;
}
/// The matrix of a chunk in [B,H,chunks,C,C].
template <class T, class Element>
__device__ inline Element* inverse_at(const LinearAttentionProblem& p, Element* inverses, const LinearBlock<T>& chunk) {
  return inverses + ((chunk.b * p.heads + chunk.h) * p.chunks() + chunk.number) * kLinearChunk * kLinearChunk;
}
/// Rows [B,H,chunks,C,state_row] as rows of positions.
template <class T>
__host__ __device__ inline HeadRows<T> chunk_rows(const LinearAttentionProblem& p, T* rows) {
  const std::int64_t head = p.chunks() * kLinearChunk * p.state_row();
  return {rows, p.heads * head, head, p.state_row()};
}

/// Blocks of threads: one for each head and each kStateColumns columns of its states.
inline cuda::Grid one_block_a_column(const LinearAttentionProblem& p, std::size_t shared_bytes) {
  cuda::Grid grid{.blocks = p.batch * p.heads, .threads = kLinearThreads, .shared_bytes = shared_bytes};
  grid.blocks_y = cuda::blocks_for(p.state_row(), kStateColumns);
  return grid;
}

/// body(i, v, n) for the chunk's positions i and the block's columns v of the state; n is their place in a tile of
/// kStateColumns columns.
template <class Body>
__device__ inline void for_tile(const LinearAttentionProblem& p, std::int64_t rows, Body body) {
  const std::int64_t begin = cuda::block_index(1) * kStateColumns;
  for (std::int64_t n = cuda::thread_index(); n < rows * kStateColumns; n += kLinearThreads) {
    const std::int64_t v = begin + n % kStateColumns;
    if (v < p.state_row()) body(n / kStateColumns, v, n);
  }
}

}  // namespace sq::kernel
