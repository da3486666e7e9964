// tensor/cuda/sort_entries.h: rows of (key, index) pairs in order.
#pragma once

#include "tensor/cuda/numbers.h"

namespace sq::cuda {

/// Ordered by key, then by index: a total order when the indices of a row differ.
template <class Key>
struct Entry {
  Key key;
  std::uint32_t index;
};

/// A float's place in the order, as an unsigned integer: -0 equals 0, every NaN is larger than all numbers.
template <class W>
__device__ inline auto order_key(W x, bool descending) {
  using Key = std::conditional_t<sizeof(W) == 8, std::uint64_t, std::uint32_t>;
  constexpr Key kSign = Key{1} << (8 * sizeof(Key) - 1);
  Key bits = 0;
  if (is_nan(x)) {
    bits = ~Key{0};
  } else if (x != 0) {
    bits = std::bit_cast<Key>(x);
    bits = (bits & kSign) != 0 ? ~bits : bits | kSign;
  } else {
    bits = kSign;
  }
  return descending ? static_cast<Key>(~bits) : bits;
}

/// Sorts each of `rows` rows of `padded` entries ascending; `padded` is a power of two (sorting_length). Bitonic: the
/// same steps for any data, rows of up to 1024 entries in shared memory.
template <class Key>
void sort_entries(const Context& context, std::string_view name, Entry<Key>* entries, std::int64_t rows,
                  std::int64_t padded);

/// The smallest power of two that holds `count`, at least 2.
constexpr std::int64_t sorting_length(std::int64_t count) {
  std::int64_t length = 2;
  while (length < count) length *= 2;
  return length;
}

}  // namespace sq::cuda
