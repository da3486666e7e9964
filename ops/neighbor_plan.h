// ops/neighbor_plan.h: a neighbor list in the form that kernels read: what many neighboring rows have in common, as
// tiles for small matrix products, and the rest row by row.
#pragma once

#include <cstdint>
#include <vector>

namespace sq {

/// Lists of different lengths behind one another: list i is entry[begin[i]] … entry[begin[i+1] - 1].
struct RaggedLists {
  std::vector<std::int64_t> begin;
  std::vector<std::int32_t> entry;
  /// How often the same entry occurred before in the same row of the neighbor list; empty when none is ever repeated.
  std::vector<std::int32_t> repeat;

  std::int64_t lists() const { return static_cast<std::int64_t>(begin.size()) - 1; }
  std::int64_t first(std::int64_t i) const { return begin[static_cast<std::size_t>(i)]; }
  std::int64_t count(std::int64_t i) const { return begin[static_cast<std::size_t>(i) + 1] - first(i); }
  const std::int32_t* entries(std::int64_t i) const { return entry.data() + first(i); }
  /// The repeats of list i, or null when there are none anywhere.
  const std::int32_t* repeats(std::int64_t i) const { return repeat.empty() ? nullptr : repeat.data() + first(i); }
};

/// Lists cut into tiles of kTileRows. An entry that many lists of a tile share is a column of the tile: the numbers of
/// columns, ascending, are `columns.entries(tile)`, and bit r of rows[n] tells whether list r of the tile has column
/// number n. Everything else is in `rest`, list by list. A window that moves with the row, keys that all rows read, and
/// whole blocks become columns; strided and random neighbors stay in the rest.
struct TiledLists {
  static constexpr std::int64_t kTileRows = 64;

  RaggedLists columns;              // one list for each tile
  std::vector<std::uint64_t> rows;  // parallel to columns.entry
  RaggedLists rest;                 // one list for each list
};

/// A table of neighbors: rows × columns of keys, -1 where a slot is empty.
struct NeighborSlots {
  const std::int32_t* indices;
  const std::int64_t* positions;  // each row's own place among the keys, or null for its number
  std::int64_t count, columns;
  bool causal;  // keys after a row's own place are absent

  bool alive(std::int64_t row, std::int64_t column) const {
    const std::int32_t key = indices[row * columns + column];
    return key >= 0 && (!causal || key <= (positions ? positions[row] : row));
  }
};

/// The live entries of the columns [first, end) of every row; repeats are counted over all columns of a row.
RaggedLists live_lists(const NeighborSlots& rows, std::int64_t first, std::int64_t end);
/// The same pairs from the other side: list j < count holds, ascending, the lists of `forward` in which j occurs.
RaggedLists reversed(const RaggedLists& forward, std::int64_t count);
/// Separates what belongs into tiles from the rest: a column is an entry that at least `rows_that_pay` lists of a tile
/// share; by default, as CPU kernels want it, half of the lists of every 16 that are touched.
TiledLists tiled(const RaggedLists& lists, int rows_that_pay = 0);

}  // namespace sq
