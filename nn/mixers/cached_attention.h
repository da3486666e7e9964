// nn/mixers/cached_attention.h: softmax attention over keys and values that were kept, for decoding.
#pragma once

#include "nn/mixers/kv_cache.h"

#include <span>

namespace sq {

/// Where the queries of each batch row stand: row b's first query at position seen[b]; its first counts[b] are real.
struct QueryPlaces {
  std::span<const std::int64_t> seen;
  std::span<const std::int64_t> counts;

  /// Whether all rows stand at one position and all their t queries are real.
  bool together(std::int64_t t) const;
};

/// The next t rows of every sequence and where a cache of `slots` slots keeps them: position p in slot p mod slots. Of
/// more rows than slots only the last ones are kept.
struct NewRows {
  NewRows(const QueryPlaces& queries, std::int64_t t, std::int64_t slots);

  Tensor positions;                  // i64 [B,t]
  std::vector<std::int64_t> places;  // for KvCache::put
};

/// What is averaged with the weights.
enum class Averaged { values, keys };

/// q [B,H,t,D] over a cache that keeps the row at position p in slot p, the queries' own rows included: each real query
/// sees positions 0 … its own. `scale` 0 stands for 1/√D. Result [B,H,t,D]; finite, but without meaning, at queries
/// that are not real.
Tensor cached_attention(const Tensor& q, const KvCache& cache, const QueryPlaces& places, double scale = 0,
                        Averaged averaged = Averaged::values);

/// i64 [values.size()].
Tensor index_tensor(std::span<const std::int64_t> values);

}  // namespace sq
