// ops/neighbor_list.h: who attends to whom, as a list with a fixed number of slots for each query.
#pragma once

#include "tensor/tensor.h"

#include <memory>
#include <vector>

namespace sq {

/// Lists of different lengths behind one another: list i is entry[begin[i]] … entry[begin[i+1] - 1].
struct RaggedLists {
  std::vector<std::int64_t> begin;
  std::vector<std::int32_t> entry;
  /// How often the same entry occurred before in the same list; empty when no entry is ever repeated.
  std::vector<std::int32_t> repeat;
  std::int64_t longest = 0;  // entries of the longest list

  std::int64_t lists() const { return static_cast<std::int64_t>(begin.size()) - 1; }
  std::int64_t count(std::int64_t i) const {
    return begin[static_cast<std::size_t>(i) + 1] - begin[static_cast<std::size_t>(i)];
  }
  const std::int32_t* entries(std::int64_t i) const { return entry.data() + begin[static_cast<std::size_t>(i)]; }
  /// The repeats of list i, or null when there are none anywhere.
  const std::int32_t* repeats(std::int64_t i) const {
    return repeat.empty() ? nullptr : repeat.data() + begin[static_cast<std::size_t>(i)];
  }
};

/// The live slots of a neighbor list in the form that kernels read: for each query its keys, for each key its queries.
/// The first `plain_columns` slots stand apart, because they may be scored with other query vectors.
struct NeighborPlan {
  RaggedLists keys, plain_keys;        // of each query
  RaggedLists queries, plain_queries;  // of each key, ascending; the same pairs seen from the other side
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
