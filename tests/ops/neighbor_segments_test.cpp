#include "ops/neighbor_segments.h"

#include "tests/support/compare.h"

#include <algorithm>
#include <tuple>
#include <vector>

using namespace sq;

namespace {

using Entries = std::vector<std::int32_t>;
using Pair = std::tuple<std::int64_t, std::int32_t, std::int32_t>;  // query, key, repeat

RaggedLists live(const Entries& indices, std::int64_t columns) {
  return live_lists({indices.data(), nullptr, static_cast<std::int64_t>(indices.size()) / columns, columns, false}, 0,
                    columns);
}

/// Key 0, a window of 40 keys, a far key, and every fourth query lists its own key once more.
Entries window(std::int64_t queries, std::int64_t keys) {
  Entries indices;
  for (std::int64_t i = 0; i < queries; ++i) {
    const std::int64_t own = i + keys - queries;
    indices.push_back(0);
    for (std::int64_t j = own - 39; j <= own; ++j)
      indices.push_back(static_cast<std::int32_t>(std::max<std::int64_t>(j, -1)));
    indices.push_back(static_cast<std::int32_t>(i * 211 % keys));
    indices.push_back(static_cast<std::int32_t>(i % 4 == 0 ? own : -1));
  }
  return indices;
}

void add_list(const RaggedLists& lists, std::vector<Pair>& pairs) {
  for (std::int64_t i = 0; i < lists.lists(); ++i)
    for (std::int64_t n = 0; n < lists.count(i); ++n)
      pairs.emplace_back(i, lists.entries(i)[n], lists.repeats(i) ? lists.repeats(i)[n] : 0);
}

/// The key whose sums stand in row `slot` of a segment.
std::int64_t key_of(const NeighborSegments& segments, std::int64_t segment, std::int64_t slot) {
  if (slot < segments.rows) return segment * segments.rows + segments.shift + slot;
  return segments.guests.entries(segment)[slot - segments.rows];
}

std::vector<Pair> summed_pairs(const TiledLists& lists, const NeighborSegments& segments) {
  std::vector<Pair> pairs;
  for (std::int64_t tile = 0; tile < lists.columns.lists(); ++tile)
    for (std::int64_t n = 0; n < lists.columns.count(tile); ++n) {
      const auto at = static_cast<std::size_t>(lists.columns.first(tile) + n);
      if (segments.slots[at] < 0) continue;
      CHECK(key_of(segments, 64 * tile / segments.rows, segments.slots[at]) == lists.columns.entry[at]);
      for (std::int64_t r = 0; r < 64; ++r)
        if (lists.rows[at] >> r & 1)
          pairs.emplace_back(64 * tile + r, lists.columns.entry[at],
                             lists.columns.repeats(tile) ? lists.columns.repeats(tile)[n] : 0);
    }
  return pairs;
}

}  // namespace

TEST_CASE("neighbor_segments: every pair is summed by a segment or left to the keys") {
  for (const auto& [queries, keys] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {65, 65}, {700, 700}, {1500, 1500}, {300, 900}, {512, 130}}) {
    const RaggedLists lists = live(window(queries, keys), 43);
    const TiledLists tiles = tiled(lists);
    const NeighborSegments segments =
        make_segments(tiles, tiled(live(Entries(static_cast<std::size_t>(queries), -1), 1)), queries, keys);
    std::vector<Pair> found = summed_pairs(tiles, segments), all;
    add_list(left_to_keys(tiles, segments.slots), found);
    add_list(lists, all);
    std::sort(found.begin(), found.end());
    std::sort(all.begin(), all.end());
    CHECK(found == all);
  }
}

TEST_CASE("neighbor_segments: a window stays at home, a shared key is a guest, and a guest knows its key") {
  const TiledLists tiles = tiled(live(window(1500, 1500), 43)), none = tiled(live(Entries(1500, -1), 1));
  const NeighborSegments segments = make_segments(tiles, none, 1500, 1500);
  CHECK(segments.rows == 256);
  CHECK(segments.segments() == 6);
  CHECK(segments.guests.count(0) == 0);  // key 0 is at home there
  for (std::int64_t segment = 1; segment < 6; ++segment) CHECK(segments.guests.entries(segment)[0] == 0);
  CHECK(segments.visits.count(0) == 5);
  for (std::int64_t n = 0; n < 5; ++n)
    CHECK(segments.guests.entry[static_cast<std::size_t>(segments.visits.entries(0)[n])] == 0);
  // Of the 1500·40 pairs of the window, those across the five edges and single ones at the rims of tiles are left.
  CHECK(left_to_keys(tiles, segments.slots).entry.size() < 10000);
}

TEST_CASE("neighbor_segments: the size of a segment follows from the number of queries") {
  const TiledLists none = tiled(live(Entries(20000, -1), 1));
  CHECK(make_segments(none, none, 20000, 20000).rows == 1024);
  CHECK(make_segments(tiled(live(Entries{}, 1)), tiled(live(Entries{}, 1)), 0, 5).segments() == 0);
}
