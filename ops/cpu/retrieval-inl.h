// ops/cpu/retrieval-inl.h: what the forward and the backward kernel of block retrieval share: the weights, and the
// matrix products of a head's tensors.

// clang-format off
#if defined(SUBQUAD_RETRIEVAL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_RETRIEVAL_INL_H
#undef SUBQUAD_RETRIEVAL_INL_H
#else
#define SUBQUAD_RETRIEVAL_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/block_retrieval.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"
#include "tensor/cpu/gemm.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

constexpr cpu::Transpose kPlain = cpu::Transpose::no, kTransposed = cpu::Transpose::yes;

/// The matrix products are themselves parallel, with the same bits: they are given the threads where there are fewer
/// tasks than threads.
template <class Body>
void for_tasks(std::int64_t tasks, Body body) {
  if (tasks >= cpu::thread_count()) {
    cpu::parallel_for(tasks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t task = begin; task < end; ++task) body(task);
    });
    return;
  }
  const cpu::FlushDenormals flush;
  for (std::int64_t task = 0; task < tasks; ++task) body(task);
}

/// Retrievers [first, first + count) of a head and the blocks that they may see: the last of them `columns`, each of
/// them `columns`, or with a retriever a block, one less for each retriever before the last.
struct RetrieverRows {
  std::int64_t b, h, first, count, columns;
  bool per_position;

  RetrieverRows(const BlockRetrievalProblem& p, std::int64_t head, std::int64_t tile)
      : b(head / p.heads), h(head % p.heads), per_position(p.per_position) {
    const std::int64_t step = p.per_position ? p.block : BlockRetrievalProblem::kRows;
    first = tile * step;
    count = std::min(step, (p.per_position ? p.positions : p.blocks) - first);
    columns = p.per_position ? tile : first + count - 1;
  }
  std::int64_t seen(std::int64_t i) const { return per_position ? columns : first + i; }

  static std::int64_t tiles(const BlockRetrievalProblem& p) {
    return p.per_position ? p.blocks : cpu::block_count(p.blocks, BlockRetrievalProblem::kRows);
  }
};

/// p[i][c] = softmax over the c < seen(i) that exist of scale · r_i·h_c, 0 elsewhere; rows lie p.blocks apart.
template <class T>
void make_weights(const BlockRetrievalProblem& p, const RetrieverRows& rows, const HeadRows<const T>& r,
                  const HeadRows<const T>& h, T* weights) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  cpu::gemm(cpu::GemmArguments<T>{.m = rows.count,
                                  .n = rows.columns,
                                  .k = p.key_width,
                                  .a = r.at(rows.b, rows.h, rows.first),
                                  .lda = r.row,
                                  .b = h.at(rows.b, rows.h),
                                  .ldb = h.row,
                                  .transpose_b = kTransposed,
                                  .c = weights,
                                  .ldc = p.blocks,
                                  .alpha = static_cast<T>(p.scale)});
  for (std::int64_t i = 0; i < rows.count; ++i) {
    T* row = weights + i * p.blocks;
    const std::int64_t seen = rows.seen(i);
    if (p.exists)
      for (std::int64_t c = 0; c < seen; ++c)
        if (p.exists[rows.b * p.blocks + c] == 0) row[c] = kNone;
    const T shift = maximum(row, seen);
    if (shift == kNone) {
      std::fill_n(row, rows.columns, T(0));
      continue;
    }
    const T factor = 1 / exp_shifted(row, shift, row, seen);
    for (std::int64_t c = 0; c < seen; ++c) row[c] *= factor;
    std::fill(row + seen, row + rows.columns, T(0));
  }
}

/// slopes ← ds = scale · p (dp - Σ p dp), from dp; 0 behind what a row sees.
template <class T>
void make_slopes(const BlockRetrievalProblem& p, const RetrieverRows& rows, const T* weights, T* slopes) {
  for (std::int64_t i = 0; i < rows.count; ++i, weights += p.blocks, slopes += p.blocks) {
    const std::int64_t seen = rows.seen(i);
    const T mean = dot(weights, static_cast<const T*>(slopes), seen);
    for (std::int64_t c = 0; c < seen; ++c) slopes[c] = static_cast<T>(p.scale) * weights[c] * (slopes[c] - mean);
    std::fill(slopes + seen, slopes + rows.columns, T(0));
  }
}

/// body(first block, blocks, positions of each): the blocks of a tile, which are all whole but perhaps the last one.
template <class Body>
void for_whole_and_rest(const BlockRetrievalProblem& p, const RetrieverRows& rows, Body body) {
  const std::int64_t whole = std::min(rows.first + rows.count, p.positions / p.block) - rows.first;
  if (whole > 0) body(rows.first, whole, p.block);
  if (whole < rows.count) body(rows.first + whole, 1, p.positions_of(rows.first + whole, rows.first + whole + 1));
}

/// How many blocks' queries stand side by side, weighed, in one product: tiles of about 128 KiB in f32.
inline std::int64_t blocks_at_once(const BlockRetrievalProblem& p) {
  return std::clamp<std::int64_t>((1 << 15) / (p.block * p.width), 1, std::max<std::int64_t>(p.blocks - 1, 1));
}

/// weighed[i][j·K + a] = p[i][first + j] q_i[a]: the queries of a block, once for each of the blocks first … they read.
template <class T>
void weigh_queries(const BlockRetrievalProblem& p, const RetrieverRows& rows, const HeadRows<const T>& q,
                   const T* weights, std::int64_t first, std::int64_t blocks, T* HWY_RESTRICT weighed) {
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const T* HWY_RESTRICT query = q.at(rows.b, rows.h, rows.first + i);
    for (std::int64_t j = 0; j < blocks; ++j, weighed += p.width) {
      const T weight = weights[i * p.blocks + first + j];
      for (std::int64_t c = 0; c < p.width; ++c) weighed[c] = weight * query[c];
    }
  }
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_RETRIEVAL_INL_H
