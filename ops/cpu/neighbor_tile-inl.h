// ops/cpu/neighbor_tile-inl.h: what the forward and the backward kernel of neighbor attention share: the columns of a
// tile in chunks of at most kTile, the rest of a list, and the dropout of both.

// clang-format off
#if defined(SUBQUAD_NEIGHBOR_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_NEIGHBOR_TILE_INL_H
#undef SUBQUAD_NEIGHBOR_TILE_INL_H
#else
#define SUBQUAD_NEIGHBOR_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/exp-inl.h"
#include "ops/cpu/rows-inl.h"
#include "ops/cpu/softmax_tile-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/neighbor_attention.h"
#include "tensor/cpu/threads.h"
#include "tensor/random.h"

#include <span>
#include <vector>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

// From so many queries on, rows that lie far apart are packed once: every row is read by many queries, and rows a power
// of two apart share few sets of the caches.
constexpr std::int64_t kPackQueries = 2 * kTile;

static_assert(kTile == TiledLists::kTileRows);

/// Some of the columns of a tile of lists: they lie along the rows of the tiles that are computed, the lists along the
/// lanes.
struct Chunk {
  const std::int32_t* entries;
  const std::int32_t* repeats;  // or null
  const std::int32_t* slots;    // where a segment sums up for the entries (NeighborSegments), or null
  std::int64_t count;
  PairMask mask;
};

/// How many of `left` ascending entries make a chunk: up to kTile, and none beyond a gap behind which a band of
/// neighboring rows begins, so that bands are read in place.
inline std::int64_t chunk_length(const std::int32_t* entries, std::int64_t left) {
  constexpr std::int64_t kBand = kTile / 2;
  const std::int64_t most = std::min(kTile, left);
  for (std::int64_t n = 1; n < most && n + kBand <= left; ++n)
    if (entries[n] != entries[n - 1] + 1 && entries[n + kBand - 1] == entries[n] + kBand - 1) return n;
  return most;
}

/// Calls use(chunk) for all columns of a tile of `lanes` lists. `slots`, if any, are those of all columns of `lists`.
template <class Use>
HWY_INLINE void for_chunks(const TiledLists& lists, const std::vector<std::int32_t>* slots, std::int64_t tile,
                           std::int64_t lanes, Use use) {
  const std::int64_t total = lists.columns.count(tile);
  for (std::int64_t first = 0, count; first < total; first += count) {
    Chunk chunk;
    chunk.entries = lists.columns.entries(tile) + first;
    chunk.repeats = lists.columns.repeats(tile) ? lists.columns.repeats(tile) + first : nullptr;
    chunk.slots = slots ? slots->data() + lists.columns.first(tile) + first : nullptr;
    chunk.count = count = chunk_length(chunk.entries, total - first);
    chunk.mask.rows = chunk.count;
    chunk.mask.lanes = lanes;
    std::copy_n(lists.rows.begin() + lists.columns.first(tile) + first, chunk.count, chunk.mask.bits.begin());
    chunk.mask.find_hulls();
    use(chunk);
  }
}

/// The rows of a chunk side by side: in place where they are neighbors and packed, else copied.
template <class T>
HWY_INLINE PackedRows<T> chunk_rows(const HeadRows<const T>& rows, std::int64_t b, std::int64_t h, const Chunk& chunk,
                                    std::int64_t width, T* buffer) {
  const std::int64_t first = chunk.entries[0], whole = padded<T>(width);
  if (chunk.entries[chunk.count - 1] - first == chunk.count - 1 && !chunk.repeats)
    return packed_rows(rows.at(b, h, first), rows.row, chunk.count, width, buffer);
  for (std::int64_t n = 0; n < chunk.count; ++n)
    pack_rows(rows.at(b, h, chunk.entries[n]), rows.row, 1, width, buffer + n * whole);
  return {buffer, whole};
}

/// The factor by which dropout multiplies the weight of a pair: 1/(1-p), or 0.
template <class T>
T kept(const NeighborAttentionProblem& p, std::int64_t b, std::int64_t h, std::int64_t query, std::int64_t key,
       std::int64_t repeat) {
  const std::int64_t number = (((repeat * p.batch + b) * p.heads + h) * p.queries + query) * p.keys + key;
  const float u = random_uniform(p.dropout.seed, p.dropout.stream, static_cast<std::uint64_t>(number));
  return u >= static_cast<float>(p.dropout.p) ? static_cast<T>(1 / (1 - p.dropout.p)) : T(0);
}

/// The factors for the live pairs of a chunk; `first` is the query or key of lane 0.
template <Queries kQueries, class T>
void fill_keep_chunk(const NeighborAttentionProblem& p, std::int64_t b, std::int64_t h, std::int64_t first,
                     const Chunk& chunk, T* keep) {
  for (std::int64_t c = 0; c < chunk.count; ++c) {
    const std::int64_t entry = chunk.entries[c], repeat = chunk.repeats ? chunk.repeats[c] : 0;
    std::uint64_t bits = chunk.mask.bits[static_cast<std::size_t>(c)];
    std::fill_n(keep + c * kTile, kTile, T(0));
    for (; bits != 0; bits &= bits - 1) {
      const std::int64_t r = std::countr_zero(bits);
      keep[c * kTile + r] = kQueries == Queries::in_lanes ? kept<T>(p, b, h, first + r, entry, repeat)
                                                          : kept<T>(p, b, h, entry, first + r, repeat);
    }
  }
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

/// Entries first … first+count-1 of a list, and where their values stand in a buffer.
struct Segment {
  std::int64_t list, first, count, offset;
};
/// Segments start at whole vectors; `dots` may write up to three values beyond its rows.
constexpr std::int64_t segment_room(std::int64_t count) { return (count + 15) / 16 * 16; }

/// Cuts the lists [begin, end) into parts of up to `room` values and calls use(segments) for each part: all products of
/// a part are made before its weights, and all weights before its sums, so that nothing waits for a single list.
template <class Use>
HWY_INLINE void for_parts(const RaggedLists& lists, std::int64_t begin, std::int64_t end, std::int64_t room, Use use) {
  std::array<Segment, 2 * kTile> segments;
  std::size_t used = 0;
  std::int64_t offset = 0;
  const auto flush = [&] {
    if (used > 0) use(std::span<const Segment>(segments.data(), used));
    used = 0;
    offset = 0;
  };
  for (std::int64_t list = begin; list < end; ++list)
    for (std::int64_t first = 0, total = lists.count(list); first < total;) {
      if (offset == room || used == segments.size()) flush();
      const std::int64_t count = std::min(total - first, room - offset);
      segments[used++] = {list, first, count, offset};
      offset += segment_room(count);
      first += count;
    }
  flush();
}

/// Calls body(b, kv_head, tile) in parallel for every tile of the lists at every batch row and key/value head.
/// `products` is the number of matrix products made for a pair.
template <class Body>
void for_tiles(const NeighborAttentionProblem& p, const TiledLists& lists, const TiledLists& plain,
               std::int64_t products, Body body) {
  const std::int64_t tiles = lists.columns.lists();
  if (tiles == 0) return;
  const auto entries = static_cast<std::int64_t>(lists.columns.entry.size() + plain.columns.entry.size()) * kTile / 2 +
                       static_cast<std::int64_t>(lists.rest.entry.size() + plain.rest.entry.size());
  const std::int64_t cost = (p.heads / p.kv_heads) * (entries / tiles) * (p.width + p.value_width) / 2 * products;
  cpu::parallel_for(p.batch * p.kv_heads * tiles, tasks_per_block(cost), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task)
      body(task / tiles / p.kv_heads, task / tiles % p.kv_heads, task % tiles);
  });
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_NEIGHBOR_TILE_INL_H
