// ops/cuda/listed_pairs.h: the pairs of a neighbor list, as the attention kernels ask for them (attention_forward.h),
// out of the device's copy of its plan (ops/neighbor_device_plan.h).
#pragma once

#include "ops/cuda/attention_tile.h"
#include "ops/neighbor_attention.h"

namespace sq::kernel {

/// The arrays of TiledLists.
struct ListedTiles {
  static constexpr int kRows = TiledLists::kTileRows;
  const std::int64_t* column_begin;
  const std::int32_t *column_entry, *column_repeat;
  const std::int64_t* rows;
  const std::int64_t* rest_begin;
  const std::int32_t *rest_entry, *rest_repeat;
  std::int64_t lists;

  ListedTiles() = default;
  explicit ListedTiles(const DeviceTiledLists& t)
      : column_begin(t.column_begin.data<std::int64_t>()),
        column_entry(t.column_entry.data<std::int32_t>()),
        column_repeat(t.column_repeat.defined() ? t.column_repeat.data<std::int32_t>() : nullptr),
        rows(t.rows.data<std::int64_t>()),
        rest_begin(t.rest_begin.data<std::int64_t>()),
        rest_entry(t.rest_entry.data<std::int32_t>()),
        rest_repeat(t.rest_repeat.defined() ? t.rest_repeat.data<std::int32_t>() : nullptr),
        lists(t.rest_begin.size(0) - 1) {}
};

/// A part of the lists from `first` on: the columns [begin, end), and of each rest up to `rest_most` entries from
/// number `rest_from` on.
struct ListedWalk {
  ListedTiles tiles;
  std::int64_t first, begin, end, rest_from, rest_most;

  __device__ std::int64_t row(std::int64_t column) const { return tiles.column_entry[column]; }
  __device__ std::int64_t repeat(std::int64_t column) const {
    return tiles.column_repeat != nullptr ? tiles.column_repeat[column] : 0;
  }
  __device__ bool alive(int own, std::int64_t column) const {
    const int bit = static_cast<int>(first % ListedTiles::kRows) + own;
    return (static_cast<std::uint64_t>(tiles.rows[column]) >> bit & 1) != 0;
  }
  __device__ bool whole(std::int64_t, int) const { return false; }
  __device__ std::int64_t rest_begin(int own) const {
    return first + own < tiles.lists ? tiles.rest_begin[first + own] + rest_from : 0;
  }
  __device__ int rest_count(int own) const {
    if (first + own >= tiles.lists) return 0;
    const std::int64_t left = tiles.rest_begin[first + own + 1] - rest_begin(own);
    return static_cast<int>(left < 0 ? 0 : left < rest_most ? left : rest_most);
  }
  __device__ std::int64_t rest_row(std::int64_t n) const { return tiles.rest_entry[n]; }
  __device__ std::int64_t rest_repeat(std::int64_t n) const {
    return tiles.rest_repeat != nullptr ? tiles.rest_repeat[n] : 0;
  }
};

/// The keys of a tile of queries.
struct ListedKeys {
  static constexpr int kSets = 2;
  static constexpr bool kHasRest = true;
  ListedTiles sets[2];

  __device__ ListedWalk walk(std::int64_t, std::int64_t first, int set) const {
    const ListedTiles& t = sets[set];
    const std::int64_t tile = first / ListedTiles::kRows;
    return {t, first, t.column_begin[tile], t.column_begin[tile + 1], 0, std::int64_t{1} << 30};
  }
};

/// The queries of a tile of keys. kRows of them are one block's.
template <int kRows>
struct ListedQueries {
  static constexpr int kSets = 2;
  static constexpr bool kHasRest = true;
  static constexpr int kBlocks = ListedTiles::kRows / kRows;  // for each part
  ListedTiles sets[2];
  const std::int32_t* parts;  // KeyParts::parts

  struct Part {
    std::int64_t first, slot, number;
  };
  __device__ Part part(std::int64_t block) const {
    const std::int32_t* p = parts + block / kBlocks * 3;
    return {std::int64_t{p[0]} * ListedTiles::kRows + block % kBlocks * kRows, p[2], p[1]};
  }
  __device__ ListedWalk walk(std::int64_t, const Part& part, int set) const {
    const ListedTiles& t = sets[set];
    const std::int64_t tile = part.first / ListedTiles::kRows, last = t.column_begin[tile + 1];
    const std::int64_t begin = t.column_begin[tile] + part.number * KeyParts::kPartColumns;
    const std::int64_t end = begin + KeyParts::kPartColumns;
    return {t,
            part.first,
            begin < last ? begin : last,
            end < last ? end : last,
            part.number * KeyParts::kPartRest,
            KeyParts::kPartRest};
  }
};

}  // namespace sq::kernel
