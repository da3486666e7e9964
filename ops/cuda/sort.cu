// ops/cuda/sort.cu: values become keys that order as unsigned integers, with their places beside them; then a bitonic
// sort of whole rows (tensor/cuda/sort_entries.h). The order is total, so equal values keep theirs.
#include "ops/sort.h"
#include "tensor/cuda/kernel.h"
#include "tensor/cuda/sort_entries.h"

namespace sq::kernel {
namespace {

using cuda::Entry;
using cuda::Wide;

constexpr int kThreads = 256;

template <class T>
using Key = std::conditional_t<std::is_same_v<T, double>, std::uint64_t, std::uint32_t>;

/// A row's entries, filled up with ones that come last.
template <class T>
__global__ void __launch_bounds__(kThreads)
    make_entries(SortRows::Arguments<T> a, std::int64_t padded, Entry<Key<T>>* entries) {
  const std::int64_t i = cuda::global_index();
  if (i >= a.rows * padded) return;
  const std::int64_t column = i % padded;
  entries[i].index = static_cast<std::uint32_t>(column);
  entries[i].key = column < a.columns ? cuda::order_key(cuda::load(a.x + i / padded * a.columns + column), a.descending)
                                      : ~Key<T>{0};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    write_sorted(SortRows::Arguments<T> a, std::int64_t padded, const Entry<Key<T>>* entries) {
  const std::int64_t i = cuda::global_index();
  if (i >= a.rows * a.kept) return;
  const std::int64_t row = i / a.kept, from = entries[row * padded + i % a.kept].index;
  a.indices[i] = from;
  a.values[i] = a.x[row * a.columns + from];
}

template <class T>
__global__ void __launch_bounds__(kThreads) scatter(SortRowsBackward::Arguments<T> a) {
  const std::int64_t i = cuda::global_index();
  if (i < a.rows * a.kept) a.dx[i / a.kept * a.columns + a.indices[i]] = a.dvalues[i];
}

cuda::Grid one_each(std::int64_t count) { return {.blocks = cuda::blocks_for(count, kThreads), .threads = kThreads}; }

}  // namespace

template <class T>
void SortRows::cuda(const cuda::Context& context, const Arguments<T>& a) {
  require(a.columns < (std::int64_t{1} << 31), name, "rows of {} elements are too long", a.columns);
  if (a.rows * a.kept == 0) return;
  const std::int64_t padded = cuda::sorting_length(a.columns);
  const cuda::Buffer<Entry<Key<T>>> entries(context, a.rows * padded);
  cuda::launch_kernel(context, name, make_entries<T>, one_each(a.rows * padded), a, padded, entries.data());
  cuda::sort_entries(context, name, entries.data(), a.rows, padded);
  cuda::launch_kernel(context, name, write_sorted<T>, one_each(a.rows * a.kept), a, padded,
                      static_cast<const Entry<Key<T>>*>(entries.data()));
}

template <class T>
void SortRowsBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::fill_bytes(context.stream(), a.dx, 0, static_cast<std::size_t>(a.rows * a.columns) * sizeof(T));
  cuda::launch_kernel(context, name, scatter<T>, one_each(a.rows * a.kept), a);
}

template void SortRows::cuda(const cuda::Context&, const Arguments<float>&);
template void SortRows::cuda(const cuda::Context&, const Arguments<double>&);
template void SortRows::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SortRows::cuda(const cuda::Context&, const Arguments<f16>&);

template void SortRowsBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void SortRowsBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void SortRowsBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SortRowsBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
