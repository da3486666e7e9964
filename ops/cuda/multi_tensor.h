// ops/cuda/multi_tensor.h: one launch for many tensors of any sizes. A model has some hundred of them, most of them
// small: a launch for each would take longer than the work.
#pragma once

#include "tensor/cuda/kernel.h"

#include <span>

namespace sq::kernel {

/// Up to kMost tensors, cut into blocks of one size that are numbered through. It travels in a launch's parameters (of
/// which there may be 4 KiB), so that nothing is copied to the device beforehand. An Item has a `count` of elements.
template <class Item>
struct TensorBatch {
  static constexpr int kMost = 64;
  std::uint64_t packed = 0;  // bit i: the rows of item i may be moved in packs
  int count = 0;
  int first_block[kMost + 1] = {0};  // of each item, and in the end the number of blocks
  Item items[kMost];

  /// The item that a block works on.
  __device__ int item_of(std::int64_t block) const {
    int low = 0, high = count;  // first_block[low] <= block < first_block[high]
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first_block[middle] <= block ? low : high) = middle;
    }
    return low;
  }
};

/// Calls use(batch, blocks, blocks_before) until every item has been part of a batch. `is_packed(item)` sets its bit.
template <class Item, class IsPacked, class Use>
void for_batches(std::span<const Item> items, std::int64_t elements_per_block, IsPacked is_packed, Use use) {
  TensorBatch<Item> batch;
  std::int64_t before = 0;
  const auto flush = [&] {
    const std::int64_t blocks = batch.first_block[batch.count];
    if (blocks > 0) use(batch, blocks, before);
    before += blocks;
    batch.count = 0;
    batch.packed = 0;
  };
  for (const Item& item : items) {
    if (item.count == 0) continue;
    if (batch.count == TensorBatch<Item>::kMost) flush();
    batch.packed |= std::uint64_t{is_packed(item)} << batch.count;
    batch.items[batch.count] = item;
    batch.first_block[batch.count + 1] =
        batch.first_block[batch.count] + static_cast<int>(cuda::blocks_for(item.count, elements_per_block));
    ++batch.count;
  }
  flush();
}

}  // namespace sq::kernel
