// ops/cpu/dense_tile-inl.h: what the forward and the backward kernel of dense attention share: which keys a tile of
// queries sees, and the dropout of a tile's weights.

// clang-format off
#if defined(SUBQUAD_DENSE_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_DENSE_TILE_INL_H
#undef SUBQUAD_DENSE_TILE_INL_H
#else
#define SUBQUAD_DENSE_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/softmax_tile-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/dense_attention.h"
#include "tensor/random.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// The keys alive in batch row b, by its length.
inline std::int64_t live_keys(const DenseAttentionProblem& p, std::int64_t b) {
  return p.lengths ? std::min(p.lengths[b], p.keys) : p.keys;
}

/// The keys [begin, end) that any of the queries [query_begin, query_end) of batch row b sees.
struct KeyRange {
  std::int64_t begin, end;
};
inline KeyRange keys_seen(const DenseAttentionProblem& p, std::int64_t b, std::int64_t query_begin,
                          std::int64_t query_end) {
  const std::int64_t shift = p.keys - p.queries;  // query i stands at position i + shift
  KeyRange range{0, live_keys(p, b)};
  if (p.window > 0) range.begin = std::max<std::int64_t>(0, query_begin + shift - p.window + 1);
  if (p.causal) range.end = std::min(range.end, query_end + shift);
  range.begin = std::min(range.begin, std::max<std::int64_t>(range.end, 0));
  return range;
}

/// The live pairs of the tile with keys from `key` on along its rows and `queries` queries from `query` on in its
/// lanes.
inline PairMask mask_of(const DenseAttentionProblem& p, std::int64_t b, std::int64_t query, std::int64_t queries,
                        std::int64_t key) {
  PairMask mask;
  mask.rows = std::clamp<std::int64_t>(live_keys(p, b) - key, 0, kTile);
  mask.lanes = queries;
  const std::int64_t position = query + p.keys - p.queries;  // of lane 0
  const bool ends = p.causal && position < key + mask.rows - 1;
  const bool begins = p.window > 0 && key <= position + queries - 1 - p.window;
  if (!ends && !begins) return mask;
  for (std::int64_t c = 0; c < mask.rows; ++c) {
    std::uint64_t bits = PairMask::low_bits(queries);
    if (p.causal) bits &= ~PairMask::low_bits(std::max<std::int64_t>(0, key + c - position));
    if (p.window > 0) bits &= PairMask::low_bits(std::max<std::int64_t>(0, key + c - position + p.window));
    mask.bits[static_cast<std::size_t>(c)] = bits;
  }
  mask.find_hulls();
  return mask;
}

/// keep[c][r] = 1/(1-p) where the weight of query `query` + r on key `key` + c survives, else 0.
template <class T>
void fill_keep_tile(const DenseAttentionProblem& p, std::int64_t b, std::int64_t h, std::int64_t query,
                    std::int64_t queries, std::int64_t key, std::int64_t keys, T* keep) {
  const T kept = static_cast<T>(1 / (1 - p.dropout.p));
  const auto threshold = static_cast<float>(p.dropout.p);
  for (std::int64_t r = 0; r < queries; ++r) {
    const auto first = static_cast<std::uint64_t>(((b * p.heads + h) * p.queries + query + r) * p.keys + key);
    std::array<std::uint32_t, 4> words = philox(p.dropout.seed, p.dropout.stream, first / 4);
    for (std::int64_t c = 0; c < keys; ++c) {
      const std::uint64_t number = first + static_cast<std::uint64_t>(c);
      if (c > 0 && number % 4 == 0) words = philox(p.dropout.seed, p.dropout.stream, number / 4);
      keep[c * kTile + r] = to_unit_float(words[number % 4]) >= threshold ? kept : T(0);
    }
  }
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_DENSE_TILE_INL_H
