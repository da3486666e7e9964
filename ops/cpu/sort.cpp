// ops/cpu/sort.cpp: rows in parallel. The order is total (value first, then index), so that the result of a partial
// sort is that of a stable one, whatever the algorithm does in between.
#include "ops/sort.h"

#include "tensor/cpu/threads.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sq::kernel {
namespace {

constexpr std::int64_t kWork = 1 << 12;  // elements worth handing to a thread

template <class T>
struct Entry {
  T value;
  std::int64_t index;
};

/// Ascending, NaN last.
template <class T>
bool below(T a, T b) {
  return a < b || (std::isnan(b) && !std::isnan(a));
}

template <class T>
void sort_row(const T* x, std::int64_t columns, std::int64_t kept, bool descending, std::vector<Entry<T>>& entries,
              T* values, std::int64_t* indices) {
  entries.resize(static_cast<std::size_t>(columns));
  for (std::int64_t c = 0; c < columns; ++c) entries[static_cast<std::size_t>(c)] = {x[c], c};
  const auto before = [descending](const Entry<T>& a, const Entry<T>& b) {
    const bool first = descending ? below(b.value, a.value) : below(a.value, b.value);
    const bool second = descending ? below(a.value, b.value) : below(b.value, a.value);
    return first || (!second && a.index < b.index);
  };
  if (kept < columns) {
    std::nth_element(entries.begin(), entries.begin() + kept, entries.end(), before);
    entries.resize(static_cast<std::size_t>(kept));
  }
  std::sort(entries.begin(), entries.end(), before);
  for (std::int64_t i = 0; i < kept; ++i) {
    values[i] = entries[static_cast<std::size_t>(i)].value;
    indices[i] = entries[static_cast<std::size_t>(i)].index;
  }
}

}  // namespace

template <class T>
void SortRows::cpu(const Arguments<T>& a) {
  cpu::parallel_for(a.rows, kWork / std::max<std::int64_t>(a.columns, 1), [&](std::int64_t begin, std::int64_t end) {
    std::vector<Entry<T>> entries;
    for (std::int64_t row = begin; row < end; ++row)
      sort_row(a.x + row * a.columns, a.columns, a.kept, a.descending, entries, a.values + row * a.kept,
               a.indices + row * a.kept);
  });
}
template void SortRows::cpu(const Arguments<float>&);
template void SortRows::cpu(const Arguments<double>&);

template <class T>
void SortRowsBackward::cpu(const Arguments<T>& a) {
  cpu::parallel_for(a.rows, kWork / std::max<std::int64_t>(a.columns, 1), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      T* dx = a.dx + row * a.columns;
      std::fill_n(dx, a.columns, T(0));
      for (std::int64_t i = row * a.kept; i < (row + 1) * a.kept; ++i) dx[a.indices[i]] = a.dvalues[i];
    }
  });
}
template void SortRowsBackward::cpu(const Arguments<float>&);
template void SortRowsBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
