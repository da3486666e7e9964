// tensor/cuda/sort_entries.cu: a bitonic network. In step (span, distance) entries i and i + distance are compared and
// put in ascending order where i & span is 0, else in descending; span = 2, 4 … padded, distance = span/2 … 1. Steps of
// a distance within a tile are made in shared memory.
#include "tensor/cuda/kernel.h"
#include "tensor/cuda/sort_entries.h"

#include <algorithm>

namespace sq::cuda {
namespace {

constexpr int kTile = 1024, kThreads = kTile / 2;

template <class Key>
__device__ inline void order(Entry<Key>& a, Entry<Key>& b, bool ascending) {
  const bool swapped = b.key < a.key || (b.key == a.key && b.index < a.index);
  if (swapped == ascending) {
    const Entry<Key> c = a;
    a = b;
    b = c;
  }
}

/// The place of the first of the two entries that comparison number `i` is about.
__device__ inline std::int64_t first_of(std::int64_t i, std::int64_t distance) {
  return i / distance * 2 * distance + i % distance;
}

/// All steps from span `from` to `to` whose distance is within the tile. `total` entries in all, `padded` in a row.
template <class Key>
__global__ void __launch_bounds__(kThreads)
    sort_tile(Entry<Key>* entries, std::int64_t total, std::int64_t padded, std::int64_t from, std::int64_t to) {
  Entry<Key>* tile = dynamic_shared<Entry<Key>>();
  const std::int64_t begin = block_index() * kTile;
  for (int i = thread_index(); i < kTile; i += kThreads)
    if (begin + i < total) tile[i] = entries[begin + i];
  sync_threads();
  for (std::int64_t span = from; span <= to; span *= 2)
    for (std::int64_t distance = span / 2 < kTile / 2 ? span / 2 : kTile / 2; distance > 0; distance /= 2) {
      const std::int64_t i = first_of(thread_index(), distance);
      if (begin + i + distance < total) order(tile[i], tile[i + distance], ((begin + i) % padded & span) == 0);
      sync_threads();
    }
  for (int i = thread_index(); i < kTile; i += kThreads)
    if (begin + i < total) entries[begin + i] = tile[i];
}

template <class Key>
__global__ void __launch_bounds__(kThreads) sort_step(Entry<Key>* entries, std::int64_t comparisons,
                                                      std::int64_t padded, std::int64_t span, std::int64_t distance) {
  const std::int64_t number = global_index();
  if (number >= comparisons) return;
  const std::int64_t i = first_of(number, distance);
  order(entries[i], entries[i + distance], (i % padded & span) == 0);
}

}  // namespace

template <class Key>
void sort_entries(const Context& context, std::string_view name, Entry<Key>* entries, std::int64_t rows,
                  std::int64_t padded) {
  const std::int64_t total = rows * padded;
  const auto in_tiles = [&](std::int64_t from, std::int64_t to) {
    launch_kernel(context, name, sort_tile<Key>,
                  {.blocks = blocks_for(total, kTile), .threads = kThreads, .shared_bytes = kTile * sizeof(Entry<Key>)},
                  entries, total, padded, from, to);
  };
  in_tiles(2, std::min<std::int64_t>(padded, kTile));
  for (std::int64_t span = 2 * kTile; span <= padded; span *= 2) {
    for (std::int64_t distance = span / 2; distance >= kTile; distance /= 2)
      launch_kernel(context, name, sort_step<Key>, {.blocks = blocks_for(total / 2, kThreads), .threads = kThreads},
                    entries, total / 2, padded, span, distance);
    in_tiles(span, span);
  }
}
template void sort_entries(const Context&, std::string_view, Entry<std::uint32_t>*, std::int64_t, std::int64_t);
template void sort_entries(const Context&, std::string_view, Entry<std::uint64_t>*, std::int64_t, std::int64_t);

}  // namespace sq::cuda
