// ops/cpu/neighbor_rows-inl.h: what the forward and the backward kernel of neighbor attention share.

// clang-format off
#if defined(SUBQUAD_NEIGHBOR_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_NEIGHBOR_ROWS_INL_H
#undef SUBQUAD_NEIGHBOR_ROWS_INL_H
#else
#define SUBQUAD_NEIGHBOR_ROWS_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/exp2-inl.h"
#include "ops/cpu/rows-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/neighbor_attention.h"
#include "tensor/cpu/threads.h"
#include "tensor/random.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// Room for one value per entry of a list, with what `dots` may write beyond.
constexpr std::int64_t row_buffer(std::int64_t count) { return (count + 63) / 64 * 64 + 64; }

/// Calls block(begin, end) in parallel for blocks of the rows 0 … batch·kv_heads·lists-1; row / lists tells the batch
/// row and key/value head, row % lists the list. A block is `least` rows, or more where the lists are short.
template <class Block>
void for_lists(const NeighborAttentionProblem& p, const RaggedLists& lists, std::int64_t least, Block&& block) {
  const std::int64_t count = lists.lists();
  const std::int64_t entries = static_cast<std::int64_t>(lists.entry.size()) / std::max<std::int64_t>(1, count);
  const std::int64_t cost = (p.heads / p.kv_heads) * (entries + 1) * (p.width + p.value_width);
  cpu::parallel_for(p.batch * p.kv_heads * count, std::max(least, tasks_per_block(cost)), block);
}

/// The rows that a list names, at some (batch row, head) of a tensor.
template <class T>
struct ListedRows {
  const T* data;
  std::int64_t stride;
  const std::int32_t* entries;
  HWY_INLINE const T* operator()(std::int64_t n) const { return data + entries[n] * stride; }
};
template <class T>
ListedRows<T> listed(const HeadRows<const T>& rows, std::int64_t b, std::int64_t h, const std::int32_t* entries) {
  return {rows.at(b, h), rows.row, entries};
}

/// x_n ← factor · x_n
template <class T>
HWY_INLINE void scale_row(T* x, std::int64_t count, T factor) {
  const hn::ScalableTag<T> d;
  const auto f = hn::Set(d, factor);
  map(x, x, count, [&](auto v) HWY_ATTR { return hn::Mul(v, f); });
}

/// Multiplies by 1/(1-p) or 0, as the number of the pair (query, key) and its repeat decides.
template <class T>
T kept(const NeighborAttentionProblem& p, std::int64_t b, std::int64_t h, std::int64_t query, std::int64_t key,
       std::int64_t repeat) {
  const std::int64_t number = (((repeat * p.batch + b) * p.heads + h) * p.queries + query) * p.keys + key;
  const float u = random_uniform(p.dropout.seed, p.dropout.stream, static_cast<std::uint64_t>(number));
  return u >= static_cast<float>(p.dropout.p) ? static_cast<T>(1 / (1 - p.dropout.p)) : T(0);
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_NEIGHBOR_ROWS_INL_H
