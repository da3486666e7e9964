#include "ops/neighbor_list.h"

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
  struct DeviceEntry {
    Device device;
    bool causal;
    std::int64_t plain_columns;
    bool reversed = false;
    NeighborDevicePlan plan = {};
  };
  std::mutex mutex;
  std::deque<Entry> entries;
  std::deque<DeviceEntry> device_entries;
};

namespace {

NeighborSlots rows_of(const NeighborList& list, bool causal) {
  return {list.indices.data<std::int32_t>(), list.positions.defined() ? list.positions.data<std::int64_t>() : nullptr,
          list.indices.size(0), list.indices.size(1), causal};
}

void add_reverse(const NeighborSlots& rows, std::int64_t plain_columns, std::int64_t keys, Device device,
                 NeighborDevicePlan& plan) {
  constexpr int kRows = NeighborDevicePlan::kRowsThatPay;
  plan.host.plain_queries = tiled(reversed(live_lists(rows, 0, plain_columns), keys), kRows);
  plan.host.queries = tiled(reversed(live_lists(rows, plain_columns, rows.columns), keys), kRows);
  plan.queries = on_device(plan.host.queries, device);
  plan.plain_queries = on_device(plan.host.plain_queries, device);
  plan.parts = make_key_parts(plan.host.queries, plan.host.plain_queries);
  const UseDevice host{Device{}};
  plan.device_parts = moved(Tensor::from(plan.parts.parts, {plan.parts.part_count(), 3}), device);
  plan.device_splits = moved(Tensor::from(plan.parts.splits, {plan.parts.split_count(), 3}), device);
}

}  // namespace

const NeighborPlan& NeighborList::forward_plan(bool causal, std::int64_t plain_columns) const {
  require(plans != nullptr, "neighbor_attention", "the neighbor list was not made by make_neighbor_list");
  const std::lock_guard lock(plans->mutex);
  for (const Plans::Entry& entry : plans->entries)
    if (entry.causal == causal && entry.plain_columns == plain_columns) return entry.plan;
  const NeighborSlots rows = rows_of(*this, causal);
  NeighborPlan plan;
  plan.plain_keys = tiled(live_lists(rows, 0, plain_columns));
  plan.keys = tiled(live_lists(rows, plain_columns, rows.columns));
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
    NeighborPlan& plan = entry->plan;
    plan.segments = make_segments(plan.keys, plan.plain_keys, query_count(), keys);
    plan.queries = tiled(reversed(left_to_keys(plan.keys, plan.segments.slots), keys));
    plan.plain_queries = tiled(reversed(left_to_keys(plan.plain_keys, plan.segments.plain_slots), keys));
    entry->reversed = true;
  }
  return entry->plan;
}

const NeighborDevicePlan& NeighborList::device_plan(Device device, bool causal, std::int64_t plain_columns,
                                                    bool backward) const {
  require(plans != nullptr, "neighbor_attention", "the neighbor list was not made by make_neighbor_list");
  const std::lock_guard lock(plans->mutex);
  const NeighborSlots rows = rows_of(*this, causal);
  auto entry = std::find_if(plans->device_entries.begin(), plans->device_entries.end(), [&](const auto& e) {
    return e.device == device && e.causal == causal && e.plain_columns == plain_columns;
  });
  if (entry == plans->device_entries.end()) {
    constexpr int kRows = NeighborDevicePlan::kRowsThatPay;
    NeighborDevicePlan plan;
    plan.host.plain_keys = tiled(live_lists(rows, 0, plain_columns), kRows);
    plan.host.keys = tiled(live_lists(rows, plain_columns, rows.columns), kRows);
    plan.keys = on_device(plan.host.keys, device);
    plan.plain_keys = on_device(plan.host.plain_keys, device);
    plans->device_entries.push_back({device, causal, plain_columns, false, std::move(plan)});
    entry = plans->device_entries.end() - 1;
  }
  if (backward && !entry->reversed) {
    add_reverse(rows, plain_columns, keys, device, entry->plan);
    entry->reversed = true;
  }
  return entry->plan;
}

NeighborList make_neighbor_list(const Tensor& indices, const Tensor& positions, std::int64_t keys) {
  constexpr std::string_view kName = "make_neighbor_list";
  require(indices.rank() == 2 && (indices.dtype() == DType::i32 || indices.dtype() == DType::i64), kName,
          "indices {} must be i32 or i64 [Tq,K]", indices);
  require(keys >= 0 && keys < (std::int64_t{1} << 31), kName, "{} keys are outside 0 … 2^31 - 1", keys);
  const Tensor wide = packed_copy(moved(indices, Device{}), DType::i64);
  const auto* values = wide.data<std::int64_t>();
  for (std::int64_t n = 0; n < wide.numel(); ++n)
    require(values[n] >= -1 && values[n] < keys, kName,
            "entry {} of query {} is key {}, outside 0 … {} (-1 marks an empty slot)", n % indices.size(1),
            n / indices.size(1), values[n], keys - 1);
  NeighborList list{packed_copy(wide, DType::i32), {}, keys, std::make_shared<NeighborList::Plans>()};
  if (!positions.defined()) return list;
  require(positions.rank() == 1 && positions.size(0) == indices.size(0) && positions.dtype() == DType::i64, kName,
          "positions {} must be i64 [{}], one for each query", positions, indices.size(0));
  list.positions = packed_copy(moved(positions, Device{}));
  const auto* own = list.positions.data<std::int64_t>();
  for (std::int64_t i = 0; i < indices.size(0); ++i)
    require(own[i] >= 0 && own[i] < keys, kName, "position {} of query {} is outside 0 … {}", own[i], i, keys - 1);
  return list;
}

}  // namespace sq
