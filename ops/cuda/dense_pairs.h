// ops/cuda/dense_pairs.h: which pairs take part in dense attention, as the attention kernels ask for it
// (attention_forward.h): ranges of keys for a tile of queries, ranges of queries for a tile of keys.
#pragma once

#include "ops/cuda/attention_tile.h"
#include "ops/dense_attention.h"

namespace sq::kernel {

/// Query i stands at position i + Tk - Tq and sees the keys (position - window, position], all of them within the
/// length of its batch row.
struct DensePairs {
  std::int64_t queries, keys, window;
  bool causal;
  const std::int64_t* lengths;

  explicit DensePairs(const DenseAttentionProblem& p)
      : queries(p.queries), keys(p.keys), window(p.window), causal(p.causal), lengths(p.lengths) {}

  __device__ std::int64_t live_keys(std::int64_t b) const {
    return lengths != nullptr && lengths[b] < keys ? lengths[b] : keys;
  }
  __device__ bool alive(std::int64_t query, std::int64_t key) const {
    const std::int64_t position = query + keys - queries;
    return (!causal || key <= position) && (window == 0 || key > position - window);
  }
  /// All pairs of [query, query_end) and [key, key_end).
  __device__ bool all_alive(std::int64_t query, std::int64_t query_end, std::int64_t key, std::int64_t key_end) const {
    return alive(query, key_end - 1) && alive(query_end - 1, key);
  }
};

__device__ inline std::int64_t clamp(std::int64_t x, std::int64_t low, std::int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/// The keys of a tile of queries.
template <int kRows>
struct KeysOfQueries {
  static constexpr int kSets = 1;
  static constexpr bool kHasRest = false;
  DensePairs pairs;

  struct Walk {
    DensePairs pairs;
    std::int64_t first, begin, end;
    __device__ std::int64_t row(std::int64_t column) const { return column; }
    __device__ std::int64_t repeat(std::int64_t) const { return 0; }
    __device__ bool alive(int own, std::int64_t column) const { return pairs.alive(first + own, column); }
    __device__ bool whole(std::int64_t column, int count) const {
      return pairs.all_alive(first, first + kRows, column, column + count);
    }
  };

  __device__ Walk walk(std::int64_t b, std::int64_t first, int) const {
    const std::int64_t live = pairs.live_keys(b), shift = pairs.keys - pairs.queries;
    const std::int64_t last = first + kRows < pairs.queries ? first + kRows : pairs.queries;
    const std::int64_t end = pairs.causal ? clamp(last + shift, 0, live) : live;
    return {pairs, first, pairs.window > 0 ? clamp(first + shift - pairs.window + 1, 0, end) : 0, end};
  }
};

/// The queries of a tile of keys.
template <int kRows>
struct QueriesOfKeys {
  static constexpr int kSets = 1;
  static constexpr bool kHasRest = false;
  DensePairs pairs;

  struct Walk {
    DensePairs pairs;
    std::int64_t first, live, begin, end;
    __device__ std::int64_t row(std::int64_t column) const { return column; }
    __device__ std::int64_t repeat(std::int64_t) const { return 0; }
    __device__ bool alive(int own, std::int64_t column) const {
      return first + own < live && pairs.alive(column, first + own);
    }
    __device__ bool whole(std::int64_t column, int count) const {
      return first + kRows <= live && pairs.all_alive(column, column + count, first, first + kRows);
    }
  };

  /// A tile's work is done by one block.
  struct Part {
    std::int64_t first, slot;
  };
  __device__ Part part(std::int64_t block) const { return {block * kRows, -1}; }

  __device__ Walk walk(std::int64_t b, const Part& part, int) const {
    const std::int64_t live = pairs.live_keys(b), shift = pairs.keys - pairs.queries, first = part.first;
    const std::int64_t last = first + kRows < live ? first + kRows : live;
    const std::int64_t begin = pairs.causal ? clamp(first - shift, 0, pairs.queries) : 0;
    std::int64_t end = pairs.window > 0 ? clamp(last - 1 - shift + pairs.window, 0, pairs.queries) : pairs.queries;
    if (first >= live) end = begin;
    return {pairs, first, live, begin, end};
  }
};

}  // namespace sq::kernel
