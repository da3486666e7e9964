// ops/cuda/gather.cu: reading is an element a thread. Sums over repeated indices keep the order of the index without
// atomics: AddRows sorts the indices and gives each row of dx to one block, which adds in order; ScatterAdd gives each
// thread a column of its own.
//
// The host does not wait to look at indices that lie on the device. One out of range reads as NaN (-1 in integers) and
// adds nothing.
#include "ops/gather.h"
#include "tensor/cuda/kernel.h"
#include "tensor/cuda/sort_entries.h"

#include <algorithm>

namespace sq::kernel {
namespace {

using cuda::Entry;
using cuda::Wide;

constexpr int kThreads = 256;

template <class T>
__device__ inline T nothing() {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(-1);
  else
    return cuda::narrow<T>(cuda::not_a_number<Wide<T>>());
}

__device__ inline bool within(std::int64_t index, std::int64_t extent) { return index >= 0 && index < extent; }

template <class T>
__global__ void __launch_bounds__(kThreads) select_rows_kernel(SelectRows::Arguments<T> a) {
  const std::int64_t at = cuda::global_index();
  if (at >= a.outer * a.count * a.inner) return;
  const std::int64_t row = at / a.inner, from = a.index[row % a.count];
  a.y[at] = within(from, a.extent) ? a.x[(row / a.count * a.extent + from) * a.inner + at % a.inner] : nothing<T>();
}

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(Gather::Arguments<T> a) {
  const std::int64_t at = cuda::global_index();
  if (at >= a.outer * a.count * a.inner) return;
  const std::int64_t from = a.index[at], outer = at / a.inner / a.count;
  a.y[at] = within(from, a.extent) ? a.x[(outer * a.extent + from) * a.inner + at % a.inner] : nothing<T>();
}

template <class T>
__global__ void __launch_bounds__(kThreads) scatter_add_kernel(ScatterAdd::Arguments<T> a) {
  const std::int64_t column = cuda::global_index();
  if (column >= a.outer * a.inner) return;
  const std::int64_t outer = column / a.inner, i = column % a.inner;
  for (std::int64_t j = 0; j < a.count; ++j) {
    const std::int64_t from = (outer * a.count + j) * a.inner + i, to = a.index[from];
    if (!within(to, a.extent)) continue;
    T* y = a.y + (outer * a.extent + to) * a.inner + i;
    cuda::store(y, cuda::load(y) + cuda::load(a.source + from));
  }
}

/// Entry j: (index[j], j); those to fill up, and those out of range, come last.
__global__ void __launch_bounds__(kThreads) make_entries(std::int64_t count, std::int64_t extent, std::int64_t padded,
                                                         const std::int64_t* index, Entry<std::uint32_t>* entries) {
  const std::int64_t j = cuda::global_index();
  if (j >= padded) return;
  const bool valid = j < count && within(index[j], extent);
  entries[j] = {valid ? static_cast<std::uint32_t>(index[j]) : 0xffffffffu, static_cast<std::uint32_t>(j)};
}

/// The first entry whose key is at least `key`.
__device__ inline std::int64_t first_entry(const Entry<std::uint32_t>* entries, std::int64_t count, std::uint32_t key) {
  std::int64_t low = 0, high = count;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (entries[middle].key < key)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/// A warp a row of dx: the rows of dy that point to it, in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_rows_kernel(AddRows::Arguments<T> a, std::int64_t padded, const Entry<std::uint32_t>* entries) {
  const std::int64_t row = cuda::global_index() / cuda::kWarp;
  if (row >= a.outer * a.extent) return;
  const auto key = static_cast<std::uint32_t>(row % a.extent);
  const std::int64_t begin = first_entry(entries, padded, key), end = first_entry(entries, padded, key + 1);
  if (begin == end && a.add) return;
  const T* dy = a.dy + row / a.extent * a.count * a.inner;
  T* dx = a.dx + row * a.inner;
  for (std::int64_t c = cuda::lane_index(); c < a.inner; c += cuda::kWarp) {
    Wide<T> sum = 0;
    for (std::int64_t j = begin; j < end; ++j) sum += cuda::load(dy + entries[j].index * a.inner + c);
    cuda::store(dx + c, a.add ? sum + cuda::load(dx + c) : sum);
  }
}

cuda::Grid one_each(std::int64_t count) { return {.blocks = cuda::blocks_for(count, kThreads), .threads = kThreads}; }

}  // namespace

template <class T>
void SelectRows::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, select_rows_kernel<T>, one_each(a.outer * a.count * a.inner), a);
}

template <class T>
void AddRows::cuda(const cuda::Context& context, const Arguments<T>& a) {
  require(a.extent < 0xffffffffll && a.count < 0xffffffffll, name, "{} rows and {} indices are too many", a.extent,
          a.count);
  const std::int64_t padded = cuda::sorting_length(a.count);
  const cuda::Buffer<Entry<std::uint32_t>> entries(context, padded);
  cuda::launch_kernel(context, name, make_entries, one_each(padded), a.count, a.extent, padded, a.index,
                      entries.data());
  cuda::sort_entries(context, name, entries.data(), 1, padded);
  cuda::launch_kernel(context, name, add_rows_kernel<T>,
                      {.blocks = cuda::blocks_for(a.outer * a.extent, kThreads / cuda::kWarp), .threads = kThreads}, a,
                      padded, static_cast<const Entry<std::uint32_t>*>(entries.data()));
}

template <class T>
void Gather::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, gather_kernel<T>, one_each(a.outer * a.count * a.inner), a);
}

template <class T>
void ScatterAdd::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, scatter_add_kernel<T>, one_each(a.outer * a.inner), a);
}

template void SelectRows::cuda(const cuda::Context&, const Arguments<float>&);
template void SelectRows::cuda(const cuda::Context&, const Arguments<double>&);
template void SelectRows::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SelectRows::cuda(const cuda::Context&, const Arguments<f16>&);
template void SelectRows::cuda(const cuda::Context&, const Arguments<std::int32_t>&);
template void SelectRows::cuda(const cuda::Context&, const Arguments<std::int64_t>&);
template void SelectRows::cuda(const cuda::Context&, const Arguments<std::uint8_t>&);

template void Gather::cuda(const cuda::Context&, const Arguments<float>&);
template void Gather::cuda(const cuda::Context&, const Arguments<double>&);
template void Gather::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Gather::cuda(const cuda::Context&, const Arguments<f16>&);
template void Gather::cuda(const cuda::Context&, const Arguments<std::int32_t>&);
template void Gather::cuda(const cuda::Context&, const Arguments<std::int64_t>&);
template void Gather::cuda(const cuda::Context&, const Arguments<std::uint8_t>&);

template void AddRows::cuda(const cuda::Context&, const Arguments<float>&);
template void AddRows::cuda(const cuda::Context&, const Arguments<double>&);
template void AddRows::cuda(const cuda::Context&, const Arguments<bf16>&);
template void AddRows::cuda(const cuda::Context&, const Arguments<f16>&);

template void ScatterAdd::cuda(const cuda::Context&, const Arguments<float>&);
template void ScatterAdd::cuda(const cuda::Context&, const Arguments<double>&);

}  // namespace sq::kernel
