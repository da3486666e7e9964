#include "ops/neighbor_plan.h"

#include "tests/support/compare.h"

#include <map>
#include <tuple>

using namespace sq;

namespace {

using Entries = std::vector<std::int32_t>;
using Pairs = std::multimap<std::tuple<std::int64_t, std::int32_t, std::int32_t>, int>;  // list, entry, repeat

Entries list(const RaggedLists& lists, std::int64_t i) { return {lists.entries(i), lists.entries(i) + lists.count(i)}; }

RaggedLists live(const Entries& indices, std::int64_t columns, bool causal = false, std::int64_t first = 0,
                 std::int64_t end = -1) {
  const NeighborSlots rows{indices.data(), nullptr, static_cast<std::int64_t>(indices.size()) / columns, columns,
                           causal};
  return live_lists(rows, first, end < 0 ? columns : end);
}

Pairs pairs_of(const RaggedLists& lists) {
  Pairs pairs;
  for (std::int64_t i = 0; i < lists.lists(); ++i)
    for (std::int64_t n = 0; n < lists.count(i); ++n)
      pairs.insert({{i, lists.entries(i)[n], lists.repeats(i) ? lists.repeats(i)[n] : 0}, 0});
  return pairs;
}

Pairs pairs_of(const TiledLists& tiled) {
  Pairs pairs = pairs_of(tiled.rest);
  for (std::int64_t tile = 0; tile < tiled.columns.lists(); ++tile)
    for (std::int64_t n = 0; n < tiled.columns.count(tile); ++n)
      for (std::int64_t r = 0; r < 64; ++r)
        if (tiled.rows[static_cast<std::size_t>(tiled.columns.first(tile) + n)] >> r & 1)
          pairs.insert({{64 * tile + r, tiled.columns.entries(tile)[n],
                         tiled.columns.repeats(tile) ? tiled.columns.repeats(tile)[n] : 0},
                        0});
  return pairs;
}

/// A window of 70 keys, one shared key, one far key, and every fifth row lists itself once more.
Entries window(std::int64_t length) {
  Entries indices;
  for (std::int64_t i = 0; i < length; ++i) {
    for (std::int64_t j = i - 69; j <= i; ++j)
      indices.push_back(static_cast<std::int32_t>(std::max<std::int64_t>(j, -1)));
    indices.push_back(0);
    indices.push_back(static_cast<std::int32_t>(i * 37 % length));
    indices.push_back(static_cast<std::int32_t>(i % 5 == 0 ? i : -1));
  }
  return indices;
}

}  // namespace

TEST_CASE("neighbor_plan keeps live slots in order and counts repeats over all slots of a row") {
  const Entries indices{1, 0, 1, 1, 0, 1, -1, 2, 0};
  CHECK(list(live(indices, 3), 0) == Entries{1, 0, 1});
  CHECK(list(live(indices, 3, true), 0) == Entries{0});
  CHECK(list(live(indices, 3), 2) == Entries{2, 0});
  const RaggedLists later = live(indices, 3, false, 1);
  CHECK(list(later, 0) == Entries{0, 1});
  CHECK(Entries(later.repeats(0), later.repeats(0) + 2) == Entries{0, 1});
  CHECK(live(indices, 3, false, 0, 2).repeats(0) == nullptr);
}

TEST_CASE("neighbor_plan reversed lists hold the same pairs, ascending") {
  const RaggedLists forward = live({1, 0, 1, 1, 0, 1, -1, 2, 0}, 3), backward = reversed(forward, 4);
  CHECK(list(backward, 0) == Entries{0, 1, 2});
  CHECK(list(backward, 1) == Entries{0, 0, 1, 1});
  CHECK(Entries(backward.repeats(1), backward.repeats(1) + 4) == Entries{0, 1, 0, 1});
  CHECK(list(backward, 2) == Entries{2});
  CHECK(list(backward, 3) == Entries{});
}

TEST_CASE("neighbor_plan tiles hold every pair exactly once") {
  for (const std::int64_t length : {1, 63, 64, 65, 200, 521}) {
    const RaggedLists forward = live(window(length), 73);
    CHECK(pairs_of(tiled(forward)) == pairs_of(forward));
    const RaggedLists backward = reversed(forward, length);
    CHECK(pairs_of(tiled(backward)) == pairs_of(backward));
  }
}

TEST_CASE("neighbor_plan makes columns of windows and shared keys, and leaves far keys in the rest") {
  const TiledLists plan = tiled(live(window(521), 73));
  std::int64_t rest = static_cast<std::int64_t>(plan.rest.entry.size());
  CHECK(rest >= 521);                    // every row's far key, unless it lies in the window
  CHECK(rest < 4 * 521);                 // and the edges of the windows, and rows that list themselves twice
  CHECK(list(plan.columns, 3)[0] == 0);  // the shared key comes first
  const Entries columns = list(plan.columns, 3);
  CHECK(columns.size() > 100);
  CHECK(std::is_sorted(columns.begin(), columns.end()));
}
