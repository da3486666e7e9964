// ops/cpu/cumsum.cpp: a running sum is a chain, so the parallel work is over rows, or over tiles of neighbouring
// columns whose sums run side by side.
#include "ops/cumsum.h"

#include "tensor/cpu/threads.h"

#include <algorithm>

namespace sq::kernel {
namespace {

constexpr std::int64_t kColumnTile = 256;
constexpr std::int64_t kWork = 1 << 14;  // elements worth handing to a thread

template <class T>
void sum_row(const CumulativeSum::Arguments<T>& a, std::int64_t o) {
  double total = 0;
  for (std::int64_t i = 0; i < a.extent; ++i) {
    const std::int64_t place = o * a.extent + (a.reverse ? a.extent - 1 - i : i);
    total += static_cast<double>(a.x[place]);
    a.y[place] = static_cast<T>(total);
  }
}

template <class T>
void sum_tile(const CumulativeSum::Arguments<T>& a, std::int64_t o, std::int64_t first, std::int64_t columns) {
  double total[kColumnTile] = {};
  for (std::int64_t i = 0; i < a.extent; ++i) {
    const std::int64_t row = a.reverse ? a.extent - 1 - i : i;
    const std::int64_t start = (o * a.extent + row) * a.inner + first;
    for (std::int64_t c = 0; c < columns; ++c) {
      total[c] += static_cast<double>(a.x[start + c]);
      a.y[start + c] = static_cast<T>(total[c]);
    }
  }
}

}  // namespace

template <class T>
void CumulativeSum::cpu(const Arguments<T>& a) {
  const std::int64_t tiles = cpu::block_count(a.inner, kColumnTile);
  const std::int64_t size = std::max<std::int64_t>(1, a.extent * std::min(a.inner, kColumnTile));
  cpu::parallel_for(a.outer * tiles, kWork / size, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t first = task % tiles * kColumnTile;
      if (a.inner == 1)
        sum_row(a, task);
      else
        sum_tile(a, task / tiles, first, std::min(kColumnTile, a.inner - first));
    }
  });
}
template void CumulativeSum::cpu(const Arguments<float>&);
template void CumulativeSum::cpu(const Arguments<double>&);

}  // namespace sq::kernel
