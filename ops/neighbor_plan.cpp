#include "ops/neighbor_plan.h"

#include "tensor/cpu/threads.h"

#include <algorithm>
#include <bit>

namespace sq {
namespace {

constexpr std::int64_t kRowsPerBlock = 256;

// A column of a tile is computed for whole vectors of rows. It pays from about half a vector on: rows taken one by one
// need a sum over the lanes for every score. 16 rows is the widest vector.
constexpr int kVectorRows = 16, kRowsThatPay = 8;

/// Counts how often keys occur in one row: a small hash table that is emptied by moving on to a new stamp.
class RepeatCounter {
 public:
  explicit RepeatCounter(std::int64_t columns) : slots_(std::bit_ceil(2 * static_cast<std::size_t>(columns) + 16)) {}
  void next_row() { ++stamp_; }
  /// How often `key` was passed before in this row.
  std::int32_t count(std::int32_t key) {
    std::size_t i = (static_cast<std::uint32_t>(key) * 2654435769u >> 7) & (slots_.size() - 1);
    while (slots_[i].stamp == stamp_ && slots_[i].key != key) i = (i + 1) & (slots_.size() - 1);
    if (slots_[i].stamp != stamp_) slots_[i] = {stamp_, key, 0};
    return slots_[i].seen++;
  }

 private:
  struct Slot {
    std::int64_t stamp = -1;
    std::int32_t key = 0, seen = 0;
  };
  std::vector<Slot> slots_;
  std::int64_t stamp_ = 0;
};

/// From the length of list i in begin[i+1] to where each list begins.
void add_up(std::vector<std::int64_t>& begin) {
  for (std::size_t i = 1; i < begin.size(); ++i) begin[i] += begin[i - 1];
}

void drop_if_all_zero(std::vector<std::int32_t>& repeat) {
  if (std::all_of(repeat.begin(), repeat.end(), [](std::int32_t n) { return n == 0; }))
    std::vector<std::int32_t>().swap(repeat);
}

/// One tile: which of its lists hold which entry.
class TileTable {
 public:
  struct Item {
    std::int32_t entry, repeat;
    std::uint64_t rows;
    /// True when enough of the touched vectors of rows would do useful work.
    bool is_column(int rows_that_pay) const {
      if (rows_that_pay > 0) return std::popcount(rows) >= rows_that_pay;
      int vectors = 0;
      for (int r = 0; r < TiledLists::kTileRows; r += kVectorRows) vectors += (rows >> r & 0xFFFF) != 0;
      return std::popcount(rows) >= kRowsThatPay * vectors;
    }
  };

  /// Fills the table with the lists [begin, end).
  void fill(const RaggedLists& lists, std::int64_t begin, std::int64_t end) {
    items_.clear();
    const auto entries = static_cast<std::size_t>(lists.first(end) - lists.first(begin));
    slots_.assign(std::bit_ceil(2 * entries + 16), -1);
    for (std::int64_t list = begin; list < end; ++list)
      for (std::int64_t n = lists.first(list); n < lists.first(list + 1); ++n) {
        const auto at = static_cast<std::size_t>(n);
        find(lists.entry[at], lists.repeat.empty() ? 0 : lists.repeat[at]).rows |= std::uint64_t{1} << (list - begin);
      }
    std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) {
      return a.entry != b.entry ? a.entry < b.entry : a.repeat < b.repeat;
    });
  }
  /// Ascending.
  const std::vector<Item>& items() const { return items_; }

 private:
  Item& find(std::int32_t entry, std::int32_t repeat) {
    const std::uint32_t hash =
        (static_cast<std::uint32_t>(entry) + static_cast<std::uint32_t>(repeat) * 40503u) * 2654435769u;
    std::size_t i = (hash >> 7) & (slots_.size() - 1);
    for (; slots_[i] >= 0; i = (i + 1) & (slots_.size() - 1)) {
      Item& item = items_[static_cast<std::size_t>(slots_[i])];
      if (item.entry == entry && item.repeat == repeat) return item;
    }
    slots_[i] = static_cast<std::int32_t>(items_.size());
    items_.push_back({entry, repeat, 0});
    return items_.back();
  }

  std::vector<std::int32_t> slots_;  // into items_, or -1
  std::vector<Item> items_;
};

}  // namespace

RaggedLists live_lists(const NeighborSlots& rows, std::int64_t first, std::int64_t end) {
  RaggedLists lists;
  lists.begin.assign(static_cast<std::size_t>(rows.count) + 1, 0);
  cpu::parallel_for(rows.count, kRowsPerBlock, [&](std::int64_t row_begin, std::int64_t row_end) {
    for (std::int64_t row = row_begin; row < row_end; ++row)
      for (std::int64_t c = first; c < end; ++c) lists.begin[static_cast<std::size_t>(row) + 1] += rows.alive(row, c);
  });
  add_up(lists.begin);
  lists.entry.resize(static_cast<std::size_t>(lists.begin.back()));
  lists.repeat.resize(lists.entry.size());
  cpu::parallel_for(rows.count, kRowsPerBlock, [&](std::int64_t row_begin, std::int64_t row_end) {
    RepeatCounter counter(rows.columns);
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      auto out = static_cast<std::size_t>(lists.first(row));
      counter.next_row();
      for (std::int64_t c = 0; c < end; ++c) {
        if (!rows.alive(row, c)) continue;
        const std::int32_t key = rows.indices[row * rows.columns + c];
        const std::int32_t repeat = counter.count(key);
        if (c < first) continue;
        lists.entry[out] = key;
        lists.repeat[out++] = repeat;
      }
    }
  });
  drop_if_all_zero(lists.repeat);
  return lists;
}

RaggedLists reversed(const RaggedLists& forward, std::int64_t count) {
  RaggedLists lists;
  lists.begin.assign(static_cast<std::size_t>(count) + 1, 0);
  for (const std::int32_t entry : forward.entry) ++lists.begin[static_cast<std::size_t>(entry) + 1];
  add_up(lists.begin);
  lists.entry.resize(forward.entry.size());
  lists.repeat.resize(forward.repeat.size());
  std::vector<std::int64_t> next(lists.begin.begin(), lists.begin.end() - 1);
  for (std::int64_t i = 0; i < forward.lists(); ++i)
    for (std::int64_t n = forward.first(i); n < forward.first(i + 1); ++n) {
      const auto from = static_cast<std::size_t>(n);
      const auto to = static_cast<std::size_t>(next[static_cast<std::size_t>(forward.entry[from])]++);
      lists.entry[to] = static_cast<std::int32_t>(i);
      if (!forward.repeat.empty()) lists.repeat[to] = forward.repeat[from];
    }
  return lists;
}

TiledLists tiled(const RaggedLists& lists, int rows_that_pay) {
  constexpr std::int64_t kRows = TiledLists::kTileRows;
  const std::int64_t count = lists.lists(), tiles = cpu::block_count(count, kRows);
  TiledLists result;
  result.columns.begin.assign(static_cast<std::size_t>(tiles) + 1, 0);
  result.rest.begin.assign(static_cast<std::size_t>(count) + 1, 0);
  std::vector<std::vector<TileTable::Item>> items(static_cast<std::size_t>(tiles));
  cpu::parallel_for(tiles, 4, [&](std::int64_t begin, std::int64_t end) {
    TileTable table;
    for (std::int64_t tile = begin; tile < end; ++tile) {
      table.fill(lists, tile * kRows, std::min((tile + 1) * kRows, count));
      items[static_cast<std::size_t>(tile)] = table.items();
      for (const TileTable::Item& item : table.items())
        if (item.is_column(rows_that_pay))
          ++result.columns.begin[static_cast<std::size_t>(tile) + 1];
        else
          for (std::uint64_t rows = item.rows; rows != 0; rows &= rows - 1)
            ++result.rest.begin[static_cast<std::size_t>(tile * kRows + std::countr_zero(rows)) + 1];
    }
  });
  for (RaggedLists* part : {&result.columns, &result.rest}) {
    add_up(part->begin);
    part->entry.resize(static_cast<std::size_t>(part->begin.back()));
    part->repeat.resize(lists.repeat.empty() ? 0 : part->entry.size());
  }
  result.rows.resize(result.columns.entry.size());
  cpu::parallel_for(tiles, 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> next;
    for (std::int64_t tile = begin; tile < end; ++tile) {
      auto column = static_cast<std::size_t>(result.columns.first(tile));
      next.assign(result.rest.begin.begin() + tile * kRows,
                  result.rest.begin.begin() + std::min((tile + 1) * kRows, count));
      const auto put = [&](RaggedLists& part, std::size_t at, const TileTable::Item& item) {
        part.entry[at] = item.entry;
        if (!part.repeat.empty()) part.repeat[at] = item.repeat;
      };
      for (const TileTable::Item& item : items[static_cast<std::size_t>(tile)]) {
        if (item.is_column(rows_that_pay)) {
          result.rows[column] = item.rows;
          put(result.columns, column++, item);
          continue;
        }
        for (std::uint64_t rows = item.rows; rows != 0; rows &= rows - 1)
          put(result.rest, static_cast<std::size_t>(next[static_cast<std::size_t>(std::countr_zero(rows))]++), item);
      }
      std::vector<TileTable::Item>().swap(items[static_cast<std::size_t>(tile)]);
    }
  });
  drop_if_all_zero(result.columns.repeat);
  drop_if_all_zero(result.rest.repeat);
  return result;
}

}  // namespace sq
