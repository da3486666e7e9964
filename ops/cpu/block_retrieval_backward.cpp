// ops/cpu/block_retrieval_backward.cpp: gradients (formulas in ops/block_retrieval.h). A task is a head: its tiles add
// to the same dF and dh, one after the other.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/block_retrieval_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/block_retrieval.h"
#include "ops/cpu/retrieval-inl.h"
#include "ops/cpu/versions.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// dR = dS H and dH += dSᵀ R, the scale being in dS.
template <class T>
void send_slopes(const BlockRetrievalBackward::Arguments<T>& a, const RetrieverRows& rows, const T* slopes) {
  const BlockRetrievalProblem& p = a.problem;
  cpu::gemm(cpu::GemmArguments<T>{.m = rows.count,
                                  .n = p.key_width,
                                  .k = rows.columns,
                                  .a = slopes,
                                  .lda = p.blocks,
                                  .b = a.h.at(rows.b, rows.h),
                                  .ldb = a.h.row,
                                  .c = a.dr.at(rows.b, rows.h, rows.first),
                                  .ldc = a.dr.row});
  cpu::gemm(cpu::GemmArguments<T>{.m = rows.columns,
                                  .n = p.key_width,
                                  .k = rows.count,
                                  .a = slopes,
                                  .lda = p.blocks,
                                  .transpose_a = kTransposed,
                                  .b = a.r.at(rows.b, rows.h, rows.first),
                                  .ldb = a.r.row,
                                  .c = a.dh.at(rows.b, rows.h),
                                  .ldc = a.dh.row,
                                  .beta = 1});
}

/// dM_c = Q_cᵀ dY_c and dQ_c = dY_c M_cᵀ
template <class T>
void read_backward(const BlockRetrievalBackward::Arguments<T>& a, const RetrieverRows& rows, const T* mixtures,
                   T* dmixtures) {
  const BlockRetrievalProblem& p = a.problem;
  for_whole_and_rest(p, rows, [&](std::int64_t block, std::int64_t count, std::int64_t positions) {
    const std::int64_t t = block * p.block, size = p.state_size();
    cpu::gemm(cpu::GemmArguments<T>{
        .m = p.width,
        .n = p.value_width,
        .k = positions,
        .a = a.q.at(rows.b, rows.h, t),
        .lda = a.q.row,
        .transpose_a = kTransposed,
        .b = a.dy.at(rows.b, rows.h, t),
        .ldb = a.dy.row,
        .c = dmixtures + (block - rows.first) * size,
        .ldc = p.value_width,
        .batch = {.count = count, .stride_a = p.block * a.q.row, .stride_b = p.block * a.dy.row, .stride_c = size}});
    cpu::gemm(cpu::GemmArguments<T>{
        .m = positions,
        .n = p.width,
        .k = p.value_width,
        .a = a.dy.at(rows.b, rows.h, t),
        .lda = a.dy.row,
        .b = mixtures + block * size,
        .ldb = p.value_width,
        .transpose_b = kTransposed,
        .c = a.dq.at(rows.b, rows.h, t),
        .ldc = a.dq.row,
        .batch = {.count = count, .stride_a = p.block * a.dy.row, .stride_b = size, .stride_c = p.block * a.dq.row}});
  });
}

/// 64 blocks of a head.
template <class T>
void tile_backward(const BlockRetrievalBackward::Arguments<T>& a, const RetrieverRows& rows, std::int64_t head,
                   Scratch<T>& scratch) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t size = p.state_size();
  T *weights = scratch.take(rows.count * p.blocks), *slopes = scratch.take(rows.count * p.blocks);
  T* dmixtures = scratch.take(rows.count * size);
  make_weights(p, rows, a.r, a.h, weights);
  read_backward(a, rows, a.mixtures + head, dmixtures);
  cpu::gemm(cpu::GemmArguments<T>{.m = rows.count,
                                  .n = rows.columns,
                                  .k = size,
                                  .a = dmixtures,
                                  .lda = size,
                                  .b = a.states + head,
                                  .ldb = size,
                                  .transpose_b = kTransposed,
                                  .c = slopes,
                                  .ldc = p.blocks});
  make_slopes(p, rows, static_cast<const T*>(weights), slopes);
  send_slopes(a, rows, static_cast<const T*>(slopes));
  cpu::gemm(cpu::GemmArguments<T>{.m = rows.columns,
                                  .n = size,
                                  .k = rows.count,
                                  .a = weights,
                                  .lda = p.blocks,
                                  .transpose_a = kTransposed,
                                  .b = dmixtures,
                                  .ldb = size,
                                  .c = a.dstates + head,
                                  .ldc = size,
                                  .beta = 1});
}

/// From dX = dY Fᵀ, X the weighed queries: dp = ⟨dX, q⟩, dq += p dX.
template <class T>
void split_slopes(const BlockRetrievalBackward::Arguments<T>& a, const RetrieverRows& rows, const T* weights,
                  std::int64_t first, std::int64_t blocks, const T* dweighed, T* slopes) {
  const BlockRetrievalProblem& p = a.problem;
  for (std::int64_t i = 0; i < rows.count; ++i)
    for (std::int64_t j = first; j < first + blocks; ++j, dweighed += p.width) {
      slopes[i * p.blocks + j] = dot(dweighed, a.q.at(rows.b, rows.h, rows.first + i), p.width);
      add_scaled(weights[i * p.blocks + j], dweighed, a.dq.at(rows.b, rows.h, rows.first + i), p.width);
    }
}

/// One block of a head, each position with its own retriever.
template <class T>
void positions_backward(const BlockRetrievalBackward::Arguments<T>& a, const RetrieverRows& rows, std::int64_t head,
                        Scratch<T>& scratch) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t step = blocks_at_once(p), size = p.state_size();
  T *weights = scratch.take(rows.count * p.blocks), *slopes = scratch.take(rows.count * p.blocks);
  T* weighed = scratch.take(p.block * step * p.width);
  const T* dy = a.dy.at(rows.b, rows.h, rows.first);
  make_weights(p, rows, a.r, a.h, weights);
  for (std::int64_t first = 0; first < rows.columns; first += step) {
    const std::int64_t blocks = std::min(step, rows.columns - first), columns = blocks * p.width;
    cpu::gemm(cpu::GemmArguments<T>{.m = rows.count,
                                    .n = columns,
                                    .k = p.value_width,
                                    .a = dy,
                                    .lda = a.dy.row,
                                    .b = a.states + head + first * size,
                                    .ldb = p.value_width,
                                    .transpose_b = kTransposed,
                                    .c = weighed,
                                    .ldc = columns});
    split_slopes(a, rows, static_cast<const T*>(weights), first, blocks, static_cast<const T*>(weighed), slopes);
    weigh_queries(p, rows, a.q, static_cast<const T*>(weights), first, blocks, weighed);
    cpu::gemm(cpu::GemmArguments<T>{.m = columns,
                                    .n = p.value_width,
                                    .k = rows.count,
                                    .a = weighed,
                                    .lda = columns,
                                    .transpose_a = kTransposed,
                                    .b = dy,
                                    .ldb = a.dy.row,
                                    .c = a.dstates + head + first * size,
                                    .ldc = p.value_width,
                                    .beta = 1});
  }
  make_slopes(p, rows, static_cast<const T*>(weights), slopes);
  send_slopes(a, rows, static_cast<const T*>(slopes));
}

template <class T>
void backward(const BlockRetrievalBackward::Arguments<T>& a) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t tiles = RetrieverRows::tiles(p), rows = p.weight_rows();
  const std::int64_t memory = rows * (2 * p.blocks + (p.per_position ? blocks_at_once(p) * p.width : p.state_size()));
  for_tasks(p.batch * p.heads, [&](std::int64_t head) {
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      Scratch<T> scratch(memory);
      const RetrieverRows some(p, head, tile);
      if (p.per_position)
        positions_backward(a, some, head * p.blocks * p.state_size(), scratch);
      else
        tile_backward(a, some, head * p.blocks * p.state_size(), scratch);
    }
  });
}

Versions<BlockRetrievalBackward> block_retrieval_backward() { return {backward<float>, backward<double>}; }

}  // namespace

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(block_retrieval_backward);

template <class T>
void BlockRetrievalBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(block_retrieval_backward)()(a);
}
template void BlockRetrievalBackward::cpu(const Arguments<float>&);
template void BlockRetrievalBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
