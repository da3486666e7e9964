#include "ops/neighbor_list.h"

#include "tensor/cpu/threads.h"
#include "tensor/memory.h"

#include <algorithm>
#include <deque>
#include <mutex>

namespace sq {

/// The plans made so far. A deque, because references to its entries are handed out.
struct NeighborList::Plans {
  struct Entry {
    bool causal;
    std::int64_t plain_columns;
    bool reversed = false;
    NeighborPlan plan;
  };
  std::mutex mutex;
  std::deque<Entry> entries;
};

namespace {

constexpr std::int64_t kRowsPerBlock = 256;

/// Counts how often keys occur in one row: a small hash table that is emptied by moving on to a new stamp.
class RepeatCounter {
 public:
  explicit RepeatCounter(std::int64_t columns) {
    std::size_t size = 16;
    while (size < 2 * static_cast<std::size_t>(columns)) size *= 2;
    slots_.resize(size);
  }
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

struct Rows {
  const std::int32_t* indices;
  const std::int64_t* positions;  // or null
  std::int64_t count, columns;
  bool causal;

  bool alive(std::int64_t row, std::int64_t column) const {
    const std::int32_t key = indices[row * columns + column];
    return key >= 0 && (!causal || key <= (positions ? positions[row] : row));
  }
};

/// From the length of list i in begin[i+1] to where each list begins.
void add_up(RaggedLists& lists) {
  for (std::size_t i = 1; i < lists.begin.size(); ++i) {
    lists.longest = std::max(lists.longest, lists.begin[i]);
    lists.begin[i] += lists.begin[i - 1];
  }
}

/// The live entries of the columns [first, end) of every row. Repeats are counted over all columns of a row.
RaggedLists live_lists(const Rows& rows, std::int64_t first, std::int64_t end) {
  RaggedLists lists;
  lists.begin.assign(static_cast<std::size_t>(rows.count) + 1, 0);
  cpu::parallel_for(rows.count, kRowsPerBlock, [&](std::int64_t row_begin, std::int64_t row_end) {
    for (std::int64_t row = row_begin; row < row_end; ++row)
      for (std::int64_t c = first; c < end; ++c) lists.begin[static_cast<std::size_t>(row) + 1] += rows.alive(row, c);
  });
  add_up(lists);
  lists.entry.resize(static_cast<std::size_t>(lists.begin.back()));
  lists.repeat.resize(lists.entry.size());
  cpu::parallel_for(rows.count, kRowsPerBlock, [&](std::int64_t row_begin, std::int64_t row_end) {
    RepeatCounter counter(rows.columns);
    for (std::int64_t row = row_begin; row < row_end; ++row) {
      auto out = static_cast<std::size_t>(lists.begin[static_cast<std::size_t>(row)]);
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
  if (std::all_of(lists.repeat.begin(), lists.repeat.end(), [](std::int32_t n) { return n == 0; })) {
    lists.repeat.clear();
    lists.repeat.shrink_to_fit();
  }
  return lists;
}

/// The same pairs from the other side: list j holds, ascending, the lists of `forward` in which j occurs.
RaggedLists reversed(const RaggedLists& forward, std::int64_t count) {
  RaggedLists lists;
  lists.begin.assign(static_cast<std::size_t>(count) + 1, 0);
  for (const std::int32_t entry : forward.entry) ++lists.begin[static_cast<std::size_t>(entry) + 1];
  add_up(lists);
  lists.entry.resize(forward.entry.size());
  lists.repeat.resize(forward.repeat.size());
  std::vector<std::int64_t> next(lists.begin.begin(), lists.begin.end() - 1);
  for (std::int64_t i = 0; i < forward.lists(); ++i)
    for (std::int64_t n = forward.begin[static_cast<std::size_t>(i)];
         n < forward.begin[static_cast<std::size_t>(i) + 1]; ++n) {
      const auto from = static_cast<std::size_t>(n);
      const auto to = static_cast<std::size_t>(next[static_cast<std::size_t>(forward.entry[from])]++);
      lists.entry[to] = static_cast<std::int32_t>(i);
      if (!forward.repeat.empty()) lists.repeat[to] = forward.repeat[from];
    }
  return lists;
}

}  // namespace

const NeighborPlan& NeighborList::forward_plan(bool causal, std::int64_t plain_columns) const {
  require(plans != nullptr, "neighbor_attention", "the neighbor list was not made by make_neighbor_list");
  const std::lock_guard lock(plans->mutex);
  for (const Plans::Entry& entry : plans->entries)
    if (entry.causal == causal && entry.plain_columns == plain_columns) return entry.plan;
  const Rows rows{indices.data<std::int32_t>(), positions.defined() ? positions.data<std::int64_t>() : nullptr,
                  indices.size(0), indices.size(1), causal};
  NeighborPlan plan;
  plan.plain_keys = live_lists(rows, 0, plain_columns);
  plan.keys = live_lists(rows, plain_columns, rows.columns);
  plans->entries.push_back({causal, plain_columns, false, std::move(plan)});
  return plans->entries.back().plan;
}

const NeighborPlan& NeighborList::backward_plan(bool causal, std::int64_t plain_columns) const {
  forward_plan(causal, plain_columns);
  const std::lock_guard lock(plans->mutex);
  const auto entry = std::find_if(plans->entries.begin(), plans->entries.end(), [&](const Plans::Entry& e) {
    return e.causal == causal && e.plain_columns == plain_columns;
  });
  if (!entry->reversed) {
    entry->plan.queries = reversed(entry->plan.keys, keys);
    entry->plan.plain_queries = reversed(entry->plan.plain_keys, keys);
    entry->reversed = true;
  }
  return entry->plan;
}

NeighborList make_neighbor_list(const Tensor& indices, const Tensor& positions, std::int64_t keys) {
  constexpr std::string_view kName = "make_neighbor_list";
  require(indices.rank() == 2 && (indices.dtype() == DType::i32 || indices.dtype() == DType::i64), kName,
          "indices {} must be i32 or i64 [Tq,K]", indices);
  require(keys >= 0 && keys < (std::int64_t{1} << 31), kName, "{} keys are outside 0 … 2^31 - 1", keys);
  const Tensor wide = packed_copy(indices, DType::i64);
  const auto* values = wide.data<std::int64_t>();
  for (std::int64_t n = 0; n < wide.numel(); ++n)
    require(values[n] >= -1 && values[n] < keys, kName,
            "entry {} of query {} is key {}, outside 0 … {} (-1 marks an empty slot)", n % indices.size(1),
            n / indices.size(1), values[n], keys - 1);
  NeighborList list{packed_copy(wide, DType::i32), {}, keys, std::make_shared<NeighborList::Plans>()};
  if (!positions.defined()) return list;
  require(positions.rank() == 1 && positions.size(0) == indices.size(0) && positions.dtype() == DType::i64, kName,
          "positions {} must be i64 [{}], one for each query", positions, indices.size(0));
  list.positions = packed_copy(positions);
  const auto* own = list.positions.data<std::int64_t>();
  for (std::int64_t i = 0; i < indices.size(0); ++i)
    require(own[i] >= 0 && own[i] < keys, kName, "position {} of query {} is outside 0 … {}", own[i], i, keys - 1);
  return list;
}

}  // namespace sq
