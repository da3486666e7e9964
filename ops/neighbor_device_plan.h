// ops/neighbor_device_plan.h: a neighbor list in a GPU's memory, in the form that its kernels read.
#pragma once

#include "ops/neighbor_segments.h"
#include "tensor/tensor.h"

namespace sq {

/// The live slots of a neighbor list in the form that kernels read. The first `plain_columns` slots stand apart,
/// because they may be scored with other query vectors.
struct NeighborPlan {
  TiledLists keys, plain_keys;        // of each query
  NeighborSegments segments;          // what the pass over the queries sums up for the keys
  TiledLists queries, plain_queries;  // of each key: the pairs that no segment sums up, seen from the other side
};

/// TiledLists on a device; the arrays are those of the lists (ops/neighbor_plan.h).
struct DeviceTiledLists {
  Tensor column_begin, column_entry, rows;  // i64, i32, i64
  Tensor column_repeat;                     // i32, or undefined where nothing is repeated
  Tensor rest_begin, rest_entry;            // i64, i32
  Tensor rest_repeat;                       // i32, or undefined
};
DeviceTiledLists on_device(const TiledLists& lists, Device device);

/// The gradients of a tile of keys are the work of one block, in parts where many queries list its keys: keys that
/// everyone reads would else keep one block busy long after all others. Part n of a tile takes the columns and, of each
/// of its lists, the rest entries that are number n·kPartColumns and n·kPartRest on.
struct KeyParts {
  static constexpr std::int64_t kPartColumns = 1024, kPartRest = 128;
  std::vector<std::int32_t> parts;   // [parts,3]: tile, n, and the slot for its sums, -1 where the tile has one part
  std::vector<std::int32_t> splits;  // [tiles with several parts,3]: tile, its first slot, how many
  std::int64_t slots = 0;

  std::int64_t part_count() const { return static_cast<std::int64_t>(parts.size()) / 3; }
  std::int64_t split_count() const { return static_cast<std::int64_t>(splits.size()) / 3; }
};
/// Tiles with several parts come first.
KeyParts make_key_parts(const TiledLists& queries, const TiledLists& plain_queries);

/// What a GPU needs of a neighbor list. The kernels for gradients go by queries and by keys, each over all pairs, so
/// there are no segments; and entries become columns where four lists of a tile share them, since tensor cores take 64
/// columns in the time of a few pairs.
struct NeighborDevicePlan {
  static constexpr int kRowsThatPay = 4;
  NeighborPlan host;  // `queries` and `plain_queries` of all pairs
  DeviceTiledLists keys, plain_keys;
  // Of a backward pass only:
  DeviceTiledLists queries, plain_queries;
  KeyParts parts;
  Tensor device_parts, device_splits;
};

}  // namespace sq
