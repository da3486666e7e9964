// ops/neighbor_list.h: who attends to whom, as a list with a fixed number of slots for each query.
#pragma once

#include "ops/neighbor_device_plan.h"
#include "tensor/tensor.h"

#include <memory>

namespace sq {

struct NeighborList {
  // On the host, whichever device the attention runs on.
  Tensor indices;         // i32 [Tq,K]: keys read by each query; -1 = empty slot; a key listed c times counts c times
  Tensor positions;       // i64 [Tq]: each query's own row among the keys; undefined = 0 … Tq-1
  std::int64_t keys = 0;  // Tk

  std::int64_t query_count() const { return indices.size(0); }

  /// The keys of each query, without those after its own position if `causal`. Built at the first call and kept.
  const NeighborPlan& forward_plan(bool causal, std::int64_t plain_columns) const;
  /// The same plan with the queries of each key, which only a backward pass needs.
  const NeighborPlan& backward_plan(bool causal, std::int64_t plain_columns) const;
  /// The plan for a GPU, in its memory, kept as well; `backward`: with what a backward pass needs.
  const NeighborDevicePlan& device_plan(Device device, bool causal, std::int64_t plain_columns, bool backward) const;

  struct Plans;
  std::shared_ptr<Plans> plans;
};

/// Checks a list once. `indices` i32 or i64 [Tq,K] with values -1 … Tk-1; `positions` i64 [Tq] with values 0 … Tk-1, or
/// undefined, on any device. Throws Error naming the first bad entry.
NeighborList make_neighbor_list(const Tensor& indices, const Tensor& positions, std::int64_t keys);

}  // namespace sq
