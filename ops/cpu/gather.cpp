// ops/cpu/gather.cpp: moving and adding rows; bound by memory, so plain loops.
//
// Sums over repeated indices keep the order of the index: AddRows first lists who adds to which row of dx (a stable
// sort), so that one thread owns a row and adds in order; ScatterAdd gives each thread columns of its own.
#include "ops/gather.h"

#include "tensor/cpu/threads.h"

#include <hwy/cache_control.h>

#include <numeric>
#include <vector>

namespace sq::kernel {
namespace {

constexpr std::int64_t kElementsPerBlock = 1 << 15;
constexpr std::int64_t kColumnsOfATask = 256;  // of ScatterAdd
constexpr std::int64_t kColumnsAtOnce = 1024;  // sums that stay in the first-level cache, rows read in one go

std::int64_t rows_per_block(std::int64_t inner) { return kElementsPerBlock / std::max<std::int64_t>(inner, 1); }

/// The numbers j of an index of values below `extent`, by index[j] and then by j.
std::vector<std::int64_t> order_of(const std::int64_t* index, std::int64_t count, std::int64_t extent) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  if (count < extent / 64) {  // a table of the extent would cost more than the sort
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return index[a] < index[b]; });
    return order;
  }
  std::vector<std::int64_t> places(static_cast<std::size_t>(extent) + 1);  // where the j of each value begin
  const auto place = [&](std::int64_t value) -> std::int64_t& { return places[static_cast<std::size_t>(value)]; };
  for (std::int64_t j = 0; j < count; ++j) ++place(index[j] + 1);
  for (std::int64_t i = 1; i < extent; ++i) place(i) += place(i - 1);
  for (std::int64_t j = 0; j < count; ++j) order[static_cast<std::size_t>(place(index[j])++)] = j;
  return order;
}

/// Row `row` of dx and who adds to it: order[first] … order[last - 1].
struct Run {
  std::int64_t row, first, last;
};

std::vector<Run> runs_of(const std::int64_t* index, const std::vector<std::int64_t>& order) {
  std::vector<Run> runs;
  for (std::size_t j = 0; j < order.size(); ++j) {
    const std::int64_t row = index[order[j]], place = static_cast<std::int64_t>(j);
    if (runs.empty() || runs.back().row != row) runs.push_back({row, place, place});
    ++runs.back().last;
  }
  return runs;
}

}  // namespace

template <class T>
void SelectRows::cpu(const Arguments<T>& a) {
  cpu::parallel_for(a.outer * a.count, rows_per_block(a.inner), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = a.x + (row / a.count * a.extent + a.index[row % a.count]) * a.inner;
      std::copy_n(x, a.inner, a.y + row * a.inner);
    }
  });
}

/// dx += the sum of the `count` rows of dy that `order` names.
template <class T>
void add_row(const T* dy, const std::int64_t* order, std::int64_t count, std::int64_t inner, T* dx) {
  using Sum = Accumulator<T>;
  constexpr auto kLine = static_cast<std::int64_t>(64 / sizeof(T));
  Sum sums[kColumnsAtOnce];
  for (std::int64_t c = 0; c < inner; c += kColumnsAtOnce) {
    const std::int64_t columns = std::min(kColumnsAtOnce, inner - c);
    std::fill_n(sums, columns, Sum{});
    for (std::int64_t j = 0; j < count; ++j) {
      const T *source = dy + order[j] * inner + c, *next = dy + order[std::min(j + 1, count - 1)] * inner + c;
      for (std::int64_t i = 0; i < columns; i += kLine) hwy::Prefetch(next + i);  // rows lie anywhere
      for (std::int64_t i = 0; i < columns; ++i) sums[i] += static_cast<Sum>(source[i]);
    }
    for (std::int64_t i = 0; i < columns; ++i) dx[c + i] = static_cast<T>(static_cast<Sum>(dx[c + i]) + sums[i]);
  }
}

template <class T>
void AddRows::cpu(const Arguments<T>& a) {
  if (!a.add)
    cpu::parallel_for(a.outer * a.extent, rows_per_block(a.inner), [&](std::int64_t begin, std::int64_t end) {
      std::fill_n(a.dx + begin * a.inner, (end - begin) * a.inner, T{});
    });
  if (a.count == 0) return;
  const std::vector<std::int64_t> order = order_of(a.index, a.count, a.extent);
  const std::vector<Run> runs = runs_of(a.index, order);
  const auto count = static_cast<std::int64_t>(runs.size());
  // A run reads a row of dx and, on average, a.count/count rows of dy.
  const std::int64_t grain = rows_per_block(a.inner) * count / (count + a.count);
  cpu::parallel_for(a.outer * count, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const Run& run = runs[static_cast<std::size_t>(task % count)];
      const std::int64_t o = task / count;
      add_row(a.dy + o * a.count * a.inner, order.data() + run.first, run.last - run.first, a.inner,
              a.dx + (o * a.extent + run.row) * a.inner);
    }
  });
}

template <class T>
void Gather::cpu(const Arguments<T>& a) {
  cpu::parallel_for(a.outer * a.count, rows_per_block(a.inner), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = a.x + row / a.count * a.extent * a.inner;
      for (std::int64_t i = 0; i < a.inner; ++i) a.y[row * a.inner + i] = x[a.index[row * a.inner + i] * a.inner + i];
    }
  });
}

template <class T>
void ScatterAdd::cpu(const Arguments<T>& a) {
  const std::int64_t stretches = cpu::block_count(a.inner, kColumnsOfATask);
  const std::int64_t cost = std::max<std::int64_t>(a.count * std::min(a.inner, kColumnsOfATask), 1);
  cpu::parallel_for(a.outer * stretches, kElementsPerBlock / cost, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t o = block / stretches, c = block % stretches * kColumnsOfATask;
      const std::int64_t c_end = std::min(c + kColumnsOfATask, a.inner);
      T* y = a.y + o * a.extent * a.inner;
      for (std::int64_t j = 0; j < a.count; ++j) {
        const std::int64_t row = (o * a.count + j) * a.inner;
        for (std::int64_t i = c; i < c_end; ++i) y[a.index[row + i] * a.inner + i] += a.source[row + i];
      }
    }
  });
}

template void SelectRows::cpu(const Arguments<float>&);
template void SelectRows::cpu(const Arguments<double>&);
template void SelectRows::cpu(const Arguments<bf16>&);
template void SelectRows::cpu(const Arguments<f16>&);
template void SelectRows::cpu(const Arguments<std::int32_t>&);
template void SelectRows::cpu(const Arguments<std::int64_t>&);
template void SelectRows::cpu(const Arguments<std::uint8_t>&);

template void AddRows::cpu(const Arguments<float>&);
template void AddRows::cpu(const Arguments<double>&);
template void AddRows::cpu(const Arguments<bf16>&);
template void AddRows::cpu(const Arguments<f16>&);

template void Gather::cpu(const Arguments<float>&);
template void Gather::cpu(const Arguments<double>&);
template void Gather::cpu(const Arguments<bf16>&);
template void Gather::cpu(const Arguments<f16>&);
template void Gather::cpu(const Arguments<std::int32_t>&);
template void Gather::cpu(const Arguments<std::int64_t>&);
template void Gather::cpu(const Arguments<std::uint8_t>&);

template void ScatterAdd::cpu(const Arguments<float>&);
template void ScatterAdd::cpu(const Arguments<double>&);

}  // namespace sq::kernel
