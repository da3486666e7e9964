// ops/cpu/gather.cpp: moving and adding rows; bound by memory, so plain loops.
//
// Sums over repeated indices keep the order of the index: AddRows first lists who writes to each row of dx (a counting
// sort, which is stable), so that one thread owns a row and adds in order; ScatterAdd gives each thread
// columns of its own.
#include "ops/gather.h"

#include "tensor/cpu/threads.h"

namespace sq::kernel {
namespace {

constexpr std::int64_t kElementsPerBlock = 1 << 15;
constexpr std::int64_t kColumnsOfATask = 256;  // of ScatterAdd
constexpr std::int64_t kColumnsAtOnce = 1024;  // sums that stay in the first-level cache, rows read in one go

std::int64_t rows_per_block(std::int64_t inner) { return kElementsPerBlock / std::max<std::int64_t>(inner, 1); }

/// Who writes to row i: order[starts[i]] … order[starts[i+1] - 1], ascending.
struct Writers {
  Tensor starts, order;

  Writers(const std::int64_t* index, std::int64_t count, std::int64_t extent)
      : starts(Tensor::zeros({extent + 2}, {.dtype = DType::i64})),
        order(Tensor::empty({count}, {.dtype = DType::i64})) {
    // Counts go two places up; after the running sum, starts[i+1] is where row i begins, and filling moves it on to
    // where row i ends, which is where row i+1 begins.
    auto *s = starts.data<std::int64_t>(), *o = order.data<std::int64_t>();
    for (std::int64_t j = 0; j < count; ++j) ++s[index[j] + 2];
    for (std::int64_t i = 2; i < extent + 2; ++i) s[i] += s[i - 1];
    for (std::int64_t j = 0; j < count; ++j) o[s[index[j] + 1]++] = j;
  }
};

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

/// One row of dx: the sum of the `count` rows of dy that `order` names, or that added to what dx holds.
template <class T>
void add_row(const AddRows::Arguments<T>& a, const T* dy, const std::int64_t* order, std::int64_t count, T* dx) {
  using Sum = Accumulator<T>;
  if (count == 0) {
    if (!a.add) std::fill_n(dx, a.inner, T{});
    return;
  }
  if (count == 1 && !a.add) {
    std::copy_n(dy + order[0] * a.inner, a.inner, dx);
    return;
  }
  Sum sums[kColumnsAtOnce];
  for (std::int64_t c = 0; c < a.inner; c += kColumnsAtOnce) {
    const std::int64_t columns = std::min(kColumnsAtOnce, a.inner - c);
    std::fill_n(sums, columns, Sum{});
    for (std::int64_t j = 0; j < count; ++j) {
      const T* source = dy + order[j] * a.inner + c;
      for (std::int64_t i = 0; i < columns; ++i) sums[i] += static_cast<Sum>(source[i]);
    }
    if (a.add)
      for (std::int64_t i = 0; i < columns; ++i) sums[i] += static_cast<Sum>(dx[c + i]);
    for (std::int64_t i = 0; i < columns; ++i) dx[c + i] = static_cast<T>(sums[i]);
  }
}

template <class T>
void AddRows::cpu(const Arguments<T>& a) {
  const Writers writers(a.index, a.count, a.extent);
  const auto *starts = writers.starts.template data<std::int64_t>(),
             *order = writers.order.template data<std::int64_t>();
  // A row of dx costs 1 write and, on average, count/extent reads.
  const std::int64_t grain = rows_per_block(a.inner) * a.extent / std::max<std::int64_t>(a.extent + a.count, 1);
  cpu::parallel_for(a.outer * a.extent, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t first = starts[row % a.extent], last = starts[row % a.extent + 1];
      add_row(a, a.dy + row / a.extent * a.count * a.inner, order + first, last - first, a.dx + row * a.inner);
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
