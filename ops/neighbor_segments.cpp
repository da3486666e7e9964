#include "ops/neighbor_segments.h"

#include "tensor/cpu/threads.h"

#include <algorithm>
#include <iterator>
#include <numeric>

namespace sq {
namespace {

constexpr std::int64_t kTile = TiledLists::kTileRows;

// Long segments have more of their pairs at home; short ones keep more threads busy.
constexpr std::int64_t kSegments = 8, kFewestTiles = 4, kMostTiles = 16;

/// Keys that are a column of at least half of the tiles [begin, end), and of two, but not at home in [home, home+rows).
std::vector<std::int32_t> guests_of(const TiledLists& lists, std::int64_t begin, std::int64_t end, std::int64_t home,
                                    std::int64_t rows) {
  std::vector<std::int32_t> seen, guests;
  for (std::int64_t tile = begin; tile < end; ++tile)
    for (std::int64_t n = 0; n < lists.columns.count(tile); ++n) {
      const std::int32_t key = lists.columns.entries(tile)[n];
      const bool repeated = n > 0 && key == lists.columns.entries(tile)[n - 1];
      if (!repeated && (key < home || key >= home + rows)) seen.push_back(key);
    }
  std::sort(seen.begin(), seen.end());
  const std::int64_t enough = std::max<std::int64_t>(2, (end - begin + 1) / 2);
  for (auto at = seen.begin(); at < seen.end();) {
    const auto next = std::upper_bound(at, seen.end(), *at);
    if (next - at >= enough) guests.push_back(*at);
    at = next;
  }
  return guests;
}

std::vector<std::int32_t> slots_of(const TiledLists& lists, const NeighborSegments& segments) {
  std::vector<std::int32_t> slots(lists.columns.entry.size());
  const std::int64_t tiles = lists.columns.lists();
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::int64_t segment = tile * kTile / segments.rows, home = segment * segments.rows + segments.shift;
    const std::int32_t *guests = segments.guests.entries(segment), *end = guests + segments.guests.count(segment);
    for (std::int64_t n = lists.columns.first(tile); n < lists.columns.first(tile + 1); ++n) {
      const std::int64_t key = lists.columns.entry[static_cast<std::size_t>(n)];
      std::int64_t slot = key - home;
      if (slot < 0 || slot >= segments.rows) {
        const std::int32_t* guest = std::lower_bound(guests, end, key);
        slot = guest < end && *guest == key ? segments.rows + (guest - guests) : -1;
      }
      slots[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(slot);
    }
  }
  return slots;
}

}  // namespace

NeighborSegments make_segments(const TiledLists& keys, const TiledLists& plain_keys, std::int64_t queries,
                               std::int64_t key_count) {
  const std::int64_t tiles = cpu::block_count(queries, kTile);
  NeighborSegments result;
  const std::int64_t segment_tiles = std::clamp(tiles / kSegments, kFewestTiles, kMostTiles);
  result.rows = segment_tiles * kTile;
  result.shift = key_count - queries;
  result.guests.begin = {0};
  for (std::int64_t tile = 0; tile < tiles; tile += segment_tiles) {
    const std::int64_t end = std::min(tile + segment_tiles, tiles), home = tile * kTile + result.shift;
    std::vector<std::int32_t> guests;
    for (const TiledLists* lists : {&keys, &plain_keys}) {
      const auto more = guests_of(*lists, tile, end, home, result.rows);
      std::vector<std::int32_t> both;
      std::set_union(guests.begin(), guests.end(), more.begin(), more.end(), std::back_inserter(both));
      guests.swap(both);
    }
    result.guests.entry.insert(result.guests.entry.end(), guests.begin(), guests.end());
    result.guests.begin.push_back(static_cast<std::int64_t>(result.guests.entry.size()));
  }
  // Each guest as a list of its own, so that the other side names its place.
  RaggedLists places = {
      .begin = std::vector<std::int64_t>(result.guests.entry.size() + 1), .entry = result.guests.entry, .repeat = {}};
  std::iota(places.begin.begin(), places.begin.end(), 0);
  result.visits = reversed(places, key_count);
  result.slots = slots_of(keys, result);
  result.plain_slots = slots_of(plain_keys, result);
  return result;
}

RaggedLists left_to_keys(const TiledLists& lists, const std::vector<std::int32_t>& slots) {
  RaggedLists left;
  left.begin = {0};
  const bool repeats = !lists.columns.repeat.empty() || !lists.rest.repeat.empty();
  const auto add = [&](std::int32_t entry, const std::int32_t* repeat) {
    left.entry.push_back(entry);
    if (repeats) left.repeat.push_back(repeat ? *repeat : 0);
  };
  for (std::int64_t list = 0; list < lists.rest.lists(); ++list) {
    const std::int64_t tile = list / kTile, first = lists.columns.first(tile);
    for (std::int64_t n = 0; n < lists.columns.count(tile); ++n)
      if (slots[static_cast<std::size_t>(first + n)] < 0 &&
          (lists.rows[static_cast<std::size_t>(first + n)] >> list % kTile & 1) != 0)
        add(lists.columns.entries(tile)[n], lists.columns.repeats(tile) ? lists.columns.repeats(tile) + n : nullptr);
    for (std::int64_t n = 0; n < lists.rest.count(list); ++n)
      add(lists.rest.entries(list)[n], lists.rest.repeats(list) ? lists.rest.repeats(list) + n : nullptr);
    left.begin.push_back(static_cast<std::int64_t>(left.entry.size()));
  }
  return left;
}

}  // namespace sq
