// ops/neighbor_list.h: who attends to whom, as a list with a fixed number of slots for each query.
#pragma once

#include "ops/neighbor_segments.h"
#include "tensor/tensor.h"

#include <memory>

namespace sq {

/// The live slots of a neighbor list in the form that kernels read. The first `plain_columns` slots stand apart,
/// because they may be scored with other query vectors.
struct NeighborPlan {
  TiledLists keys, plain_keys;        // of each query
  NeighborSegments segments;          // what the pass over the queries sums up for the keys
  TiledLists queries, plain_queries;  // of each key: the pairs that no segment sums up, seen from the other side
};

struct NeighborList {
  Tensor indices;         // i32 [Tq,K]: keys read by each query; -1 = empty slot; a key listed c times counts c times
  Tensor positions;       // i64 [Tq]: each query's own row among the keys; undefined = 0 … Tq-1
  std::int64_t keys = 0;  // Tk

  std::int64_t query_count() const { return indices.size(0); }

  /// The keys of each query, without those after its own position if `causal`. Built at the first call and kept.
  const NeighborPlan& forward_plan(bool causal, std::int64_t plain_columns) const;
  /// The same plan with the queries of each key, which only a backward pass needs.
  const NeighborPlan& backward_plan(bool causal, std::int64_t plain_columns) const;

  struct Plans;
  std::shared_ptr<Plans> plans;
};

/// Checks a list once. `indices` i32 or i64 [Tq,K] with values -1 … Tk-1; `positions` i64 [Tq] with values 0 … Tk-1, or
/// undefined. Throws Error naming the first bad entry.
NeighborList make_neighbor_list(const Tensor& indices, const Tensor& positions, std::int64_t keys);

}  // namespace sq
