// ops/cpu/delta_tile-inl.h: where the forward and the backward kernel of the delta rule keep what they hand on.

// clang-format off
#if defined(SUBQUAD_DELTA_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_DELTA_TILE_INL_H
#undef SUBQUAD_DELTA_TILE_INL_H
#else
#define SUBQUAD_DELTA_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/decay_tile-inl.h"
#include "ops/delta_rule.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// β of a chunk's positions.
template <class T>
const T* beta_of(const LinearAttentionProblem& p, const T* beta, const LinearChunk<T>& chunk) {
  return beta + (chunk.b * p.heads + chunk.h) * p.positions + chunk.first;
}
/// The matrix of a chunk in [B,H,chunks,C,C].
template <class T, class Element>
Element* inverse_at(const LinearAttentionProblem& p, Element* inverses, const LinearChunk<T>& chunk,
                    std::int64_t number) {
  return inverses + ((chunk.b * p.heads + chunk.h) * p.chunks() + number) * kTile * kTile;
}
/// The rows of a chunk in [B,H,chunks,C,state_row].
template <class T, class Element>
Element* rows_at(const LinearAttentionProblem& p, Element* rows, const LinearChunk<T>& chunk, std::int64_t number) {
  return rows + ((chunk.b * p.heads + chunk.h) * p.chunks() + number) * kTile * p.state_row();
}
/// The same as rows of positions.
template <class T>
HeadRows<const T> chunk_rows(const LinearAttentionProblem& p, const T* rows) {
  const std::int64_t head = p.chunks() * kTile * p.state_row();
  return {rows, p.heads * head, head, p.state_row()};
}

/// body(head, begin, columns) in parallel for all heads and columns of their states: those of V, which do not meet on
/// the way from chunk to chunk, in blocks.
template <class Body>
void for_state_columns(const LinearAttentionProblem& p, Body body) {
  constexpr std::int64_t kColumns = 32;
  const std::int64_t blocks = cpu::block_count(p.state_row(), kColumns);
  cpu::parallel_for(p.batch * p.heads * blocks, tasks_per_block(2 * p.positions * p.width * kColumns),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t task = begin; task < end; ++task) {
                        const std::int64_t first = task % blocks * kColumns;
                        body(task / blocks, first, std::min(kColumns, p.state_row() - first));
                      }
                    });
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_DELTA_TILE_INL_H
