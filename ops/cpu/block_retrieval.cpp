// ops/cpu/block_retrieval.cpp: the forward pass. A task is 64 blocks of a head, or one block where every position has a
// retriever of its own; nearly all of its work are matrix products.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/block_retrieval.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/block_retrieval.h"

#include "ops/cpu/retrieval-inl.h"
#include "ops/cpu/versions.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// M_c = Σ_{c'<c} p_cc' F_c' for the blocks of a tile. Earlier tiles' F are a product of all rows; within the tile, the
/// rows of eight read what lies before the eight as a product, and each other one by one: no row ever meets a block it
/// does not see.
template <class T>
void mix(const BlockRetrievalProblem& p, const RetrieverRows& rows, const T* weights, const T* states, T* mixtures) {
  constexpr std::int64_t kStep = 8;
  const std::int64_t size = p.state_size();
  const auto add = [&](std::int64_t row, std::int64_t count, std::int64_t first, std::int64_t blocks, T beta) {
    cpu::gemm(cpu::GemmArguments<T>{.m = count,
                                    .n = size,
                                    .k = blocks,
                                    .a = weights + row * p.blocks + first,
                                    .lda = p.blocks,
                                    .b = states + first * size,
                                    .ldb = size,
                                    .c = mixtures + row * size,
                                    .ldc = size,
                                    .beta = beta});
  };
  add(0, rows.count, 0, rows.first, 0);
  for (std::int64_t row = 0; row < rows.count; row += kStep) {
    const std::int64_t count = std::min(kStep, rows.count - row);
    if (row > 0) add(row, count, rows.first, row, 1);
    for (std::int64_t i = row; i < row + count; ++i)
      for (std::int64_t j = row; j < i; ++j)
        add_scaled(weights[i * p.blocks + rows.first + j], states + (rows.first + j) * size, mixtures + i * size, size);
  }
}

/// Y_c = Q_c M_c
template <class T>
void read(const BlockRetrievalForward::Arguments<T>& a, const RetrieverRows& rows, const T* mixtures) {
  const BlockRetrievalProblem& p = a.problem;
  for_whole_and_rest(p, rows, [&](std::int64_t block, std::int64_t count, std::int64_t positions) {
    cpu::gemm(cpu::GemmArguments<T>{
        .m = positions,
        .n = p.value_width,
        .k = p.width,
        .a = a.q.at(rows.b, rows.h, block * p.block),
        .lda = a.q.row,
        .b = mixtures + block * p.state_size(),
        .ldb = p.value_width,
        .c = a.y.at(rows.b, rows.h, block * p.block),
        .ldc = a.y.row,
        .batch = {
            .count = count, .stride_a = p.block * a.q.row, .stride_b = p.state_size(), .stride_c = p.block * a.y.row}});
  });
}

/// Y_c = [diag(p_0) Q_c, diag(p_1) Q_c, …] [F_0; F_1; …], some blocks at a time.
template <class T>
void read_per_position(const BlockRetrievalForward::Arguments<T>& a, const RetrieverRows& rows, const T* weights,
                       const T* states, T* weighed) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t step = blocks_at_once(p);
  T* y = a.y.at(rows.b, rows.h, rows.first);
  if (rows.columns == 0)
    for (std::int64_t i = 0; i < rows.count; ++i) std::fill_n(y + i * a.y.row, p.value_width, T(0));
  for (std::int64_t first = 0; first < rows.columns; first += step) {
    const std::int64_t blocks = std::min(step, rows.columns - first);
    weigh_queries(p, rows, a.q, weights, first, blocks, weighed);
    cpu::gemm(cpu::GemmArguments<T>{.m = rows.count,
                                    .n = p.value_width,
                                    .k = blocks * p.width,
                                    .a = weighed,
                                    .lda = blocks * p.width,
                                    .b = states + first * p.state_size(),
                                    .ldb = p.value_width,
                                    .c = y,
                                    .ldc = a.y.row,
                                    .beta = first > 0 ? T(1) : T(0)});
  }
}

template <class T>
void forward(const BlockRetrievalForward::Arguments<T>& a) {
  const BlockRetrievalProblem& p = a.problem;
  const std::int64_t tiles = RetrieverRows::tiles(p), weights = p.weight_rows() * p.blocks;
  for_tasks(p.batch * p.heads * tiles, [&](std::int64_t task) {
    const RetrieverRows rows(p, task / tiles, task % tiles);
    const std::int64_t head = task / tiles * p.blocks * p.state_size();
    Scratch<T> scratch(weights + (p.per_position ? p.block * blocks_at_once(p) * p.width : 0));
    T* weight = scratch.take(weights);
    make_weights(p, rows, a.r, a.h, weight);
    if (p.per_position) {
      read_per_position(a, rows, weight, a.states + head, scratch.take(0));
    } else {
      mix(p, rows, weight, a.states + head, a.mixtures + head + rows.first * p.state_size());
      read(a, rows, static_cast<const T*>(a.mixtures + head));
    }
  });
}

Versions<BlockRetrievalForward> block_retrieval_forward() { return {forward<float>, forward<double>}; }

}  // namespace

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(block_retrieval_forward);

template <class T>
void BlockRetrievalForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(block_retrieval_forward)()(a);
}
template void BlockRetrievalForward::cpu(const Arguments<float>&);
template void BlockRetrievalForward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
