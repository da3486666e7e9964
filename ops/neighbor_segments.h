// ops/neighbor_segments.h: which gradients of keys the pass over the queries sums up on its way.
//
// The sums for dk and dv run over the queries of a key. A task that works on all query tiles of a segment can make
// them for the keys at home there, those with the same row numbers, because no other segment does: for a window these
// are nearly all pairs. A few keys from elsewhere that the whole segment reads, such as global keys, are its guests: it
// makes a sum of its own for each, and in the end a key adds up what all segments have for it. Every other pair is left
// to a pass over the keys.
#pragma once

#include "ops/neighbor_plan.h"

#include <cstdint>
#include <vector>

namespace sq {

struct NeighborSegments {
  std::int64_t rows = 0;   // queries of a segment, and keys at home in it: whole tiles
  std::int64_t shift = 0;  // segment s is at home in the keys from s·rows + shift on
  RaggedLists guests;      // of each segment, ascending
  RaggedLists visits;      // of each key, its places in guests.entry
  /// Parallel to columns.entry of the tiles: the row of a column's key among the sums [rows at home; guests] of the
  /// tile's segment, or -1.
  std::vector<std::int32_t> slots, plain_slots;

  std::int64_t segments() const { return guests.lists(); }
};

/// Segments for `queries` lists of keys in two sets of tiles, the second those of the plain slots. Their size follows
/// from the number of queries alone.
NeighborSegments make_segments(const TiledLists& keys, const TiledLists& plain_keys, std::int64_t queries,
                               std::int64_t key_count);
/// The pairs that no segment sums up: everything but the columns with a slot.
RaggedLists left_to_keys(const TiledLists& lists, const std::vector<std::int32_t>& slots);

}  // namespace sq
