// ops/cuda/reduce.cu: rows (inner = 1) by a warp or a block each; columns by tiles of 32, the rows of a tile shared by
// the 8 warps of a block. Long sums are cut into chunks that depend on the shape alone; the partial sums are added in
// order, in double, by a second launch.
#include "ops/reduce.h"
#include "tensor/cuda/kernel.h"

#include <algorithm>

namespace sq::kernel {
namespace {

using cuda::kWarp;
using cuda::Wide;

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr std::int64_t kWarpColumns = 1024;  // longest row for one warp
constexpr std::int64_t kRowChunk = 8192;     // elements of a row that one block sums
constexpr std::int64_t kColumnChunk = 512;   // rows that one block sums

template <int Width, class Combine, class W>
__device__ inline W reduce(W value) {
  if constexpr (Width == kWarp)
    return cuda::warp_reduce<Combine>(value);
  else
    return cuda::block_reduce<Combine>(value);
}

template <class Out, class W>
__device__ inline void write(Out* to, W value) {
  *to = cuda::narrow<Out>(static_cast<Wide<Out>>(value));
}

/// y[task] ← the sum, formed in Sum, of chunk task % chunks of row task / chunks.
template <int Width, class Sum, class In, class Out>
__global__ void __launch_bounds__(kThreads)
    sum_rows(std::int64_t rows, std::int64_t extent, std::int64_t chunks, std::int64_t chunk, const In* x, Out* y) {
  const std::int64_t task = cuda::global_index() / Width;
  if (task >= rows * chunks) return;
  const std::int64_t first = task % chunks * chunk, end = first + chunk < extent ? first + chunk : extent;
  const In* row = x + task / chunks * extent;
  Sum total = 0;
  for (std::int64_t i = first + cuda::thread_index() % Width; i < end; i += Width) total += cuda::load(row + i);
  total = reduce<Width, cuda::Plus>(total);
  if (cuda::thread_index() % Width == 0) write(y + task, total);
}

/// y[o,part,i] ← Σ x[o,r,i] over the rows r of chunk `part`. Lane: column; warp: every eighth row.
template <class Sum, class In, class Out>
__global__ void __launch_bounds__(kThreads)
    sum_columns(std::int64_t extent, std::int64_t inner, std::int64_t chunks, std::int64_t chunk, const In* x, Out* y) {
  struct Tag;
  Sum* partial = cuda::static_shared<Sum, kThreads, Tag>();
  const std::int64_t tiles = (inner + kWarp - 1) / kWarp;
  const std::int64_t tile = cuda::block_index() % tiles, task = cuda::block_index() / tiles;
  const std::int64_t column = tile * kWarp + cuda::lane_index();
  const std::int64_t first = task % chunks * chunk, end = first + chunk < extent ? first + chunk : extent;
  Sum total = 0;
  if (column < inner)
    for (std::int64_t r = first + cuda::warp_index(); r < end; r += kWarps)
      total += cuda::load(x + (task / chunks * extent + r) * inner + column);
  partial[cuda::thread_index()] = total;
  cuda::sync_threads();
  if (cuda::warp_index() != 0 || column >= inner) return;
  for (int w = 1; w < kWarps; ++w) total += partial[w * kWarp + cuda::lane_index()];
  write(y + task * inner + column, total);
}

template <class Sum, class In, class Out>
void launch_rows(const cuda::Context& context, std::int64_t rows, std::int64_t extent, std::int64_t chunks,
                 std::int64_t chunk, const In* x, Out* y) {
  if (std::min(chunk, extent) <= kWarpColumns)
    cuda::launch_kernel(context, ReduceSum::name, sum_rows<kWarp, Sum, In, Out>,
                        {.blocks = cuda::blocks_for(rows * chunks, kWarps), .threads = kThreads}, rows, extent, chunks,
                        chunk, x, y);
  else
    cuda::launch_kernel(context, ReduceSum::name, sum_rows<kThreads, Sum, In, Out>,
                        {.blocks = rows * chunks, .threads = kThreads}, rows, extent, chunks, chunk, x, y);
}

template <class Sum, class In, class Out>
void launch_columns(const cuda::Context& context, std::int64_t outer, std::int64_t extent, std::int64_t inner,
                    std::int64_t chunks, std::int64_t chunk, const In* x, Out* y) {
  cuda::launch_kernel(context, ReduceSum::name, sum_columns<Sum, In, Out>,
                      {.blocks = cuda::blocks_for(inner, kWarp) * outer * chunks, .threads = kThreads}, extent, inner,
                      chunks, chunk, x, y);
}

// --- the largest ---

template <class W>
struct Candidate {
  W value;
  std::int64_t index;
};
template <class W>
__device__ inline Candidate<W> shuffle_xor(Candidate<W> c, int step) {
  return {cuda::shuffle_xor(c.value, step), cuda::shuffle_xor(c.index, step)};
}

/// The larger, a NaN counting as larger than all; the lower index among equals.
struct Better {
  template <class C>
  __device__ static C identity() {
    return {-cuda::infinity<decltype(C::value)>(), 0x7fffffffffffffffll};
  }
  template <class W>
  __device__ Candidate<W> operator()(Candidate<W> a, Candidate<W> b) const {
    const bool a_nan = cuda::is_nan(a.value), b_nan = cuda::is_nan(b.value);
    const bool equal = a.value == b.value || (a_nan && b_nan);
    const bool first = equal ? a.index < b.index : a_nan || (!b_nan && a.value > b.value);
    return first ? a : b;
  }
};

template <int Width, class T>
__global__ void __launch_bounds__(kThreads) arg_max_rows(ArgMax::Arguments<T> a) {
  using C = Candidate<Wide<T>>;
  const std::int64_t row = cuda::global_index() / Width;
  if (row >= a.outer) return;
  C best = Better::identity<C>();
  for (std::int64_t i = cuda::thread_index() % Width; i < a.extent; i += Width)
    best = Better{}(best, C{cuda::load(a.x + row * a.extent + i), i});
  best = reduce<Width, Better>(best);
  if (cuda::thread_index() % Width != 0) return;
  a.index[row] = best.index;
  a.y[row] = a.x[row * a.extent + best.index];
}

template <class T>
__global__ void __launch_bounds__(kThreads) arg_max_columns(ArgMax::Arguments<T> a) {
  using C = Candidate<Wide<T>>;
  const std::int64_t i = cuda::global_index();
  if (i >= a.outer * a.inner) return;
  const T* x = a.x + i / a.inner * a.extent * a.inner + i % a.inner;
  C best = Better::identity<C>();
  for (std::int64_t r = 0; r < a.extent; ++r) best = Better{}(best, C{cuda::load(x + r * a.inner), r});
  a.index[i] = best.index;
  a.y[i] = x[best.index * a.inner];
}

template <class T>
__global__ void __launch_bounds__(kThreads) max_backward(MaxBackward::Arguments<T> a) {
  const std::int64_t at = cuda::global_index();
  if (at >= a.outer * a.extent * a.inner) return;
  const std::int64_t row = at / a.inner % a.extent;
  const std::int64_t from = at / a.inner / a.extent * a.inner + at % a.inner;
  a.dx[at] = a.index[from] == row ? a.dy[from] : cuda::narrow<T>(0);
}

// --- ln Σ e^x ---

/// m + ln(total), or m itself where it is infinite or NaN.
template <class W>
__device__ inline W log_sum(W shift, W total) {
  return shift - shift == 0 ? shift + cuda::log(total) : shift;
}

template <int Width, class T>
__global__ void __launch_bounds__(kThreads) log_sum_exp_rows(LogSumExp::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t row = cuda::global_index() / Width;
  if (row >= a.outer) return;
  const T* x = a.x + row * a.extent;
  const int mine = cuda::thread_index() % Width;
  W shift = -cuda::infinity<W>();
  for (std::int64_t i = mine; i < a.extent; i += Width) shift = cuda::larger(shift, cuda::load(x + i));
  shift = reduce<Width, cuda::Largest>(shift);
  W total = 0;
  for (std::int64_t i = mine; i < a.extent; i += Width) total += cuda::exp(cuda::load(x + i) - shift);
  total = reduce<Width, cuda::Plus>(total);
  if (mine == 0) cuda::store(a.y + row, log_sum(shift, total));
}

template <class T>
__global__ void __launch_bounds__(kThreads) log_sum_exp_columns(LogSumExp::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t i = cuda::global_index();
  if (i >= a.outer * a.inner) return;
  const T* x = a.x + i / a.inner * a.extent * a.inner + i % a.inner;
  W shift = -cuda::infinity<W>(), total = 0;
  for (std::int64_t r = 0; r < a.extent; ++r) shift = cuda::larger(shift, cuda::load(x + r * a.inner));
  for (std::int64_t r = 0; r < a.extent; ++r) total += cuda::exp(cuda::load(x + r * a.inner) - shift);
  cuda::store(a.y + i, log_sum(shift, total));
}

/// dx = dy·e^(x-y), 0 where y = -∞
template <class T>
__global__ void __launch_bounds__(kThreads) log_sum_exp_backward(LogSumExpBackward::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t at = cuda::global_index();
  if (at >= a.outer * a.extent * a.inner) return;
  const std::int64_t from = at / a.inner / a.extent * a.inner + at % a.inner;
  const W y = cuda::load(a.y + from);
  const bool nothing = y == -cuda::infinity<W>();
  cuda::store(a.dx + at, nothing ? W(0) : cuda::load(a.dy + from) * cuda::exp(cuda::load(a.x + at) - y));
}

cuda::Grid one_each(std::int64_t count) { return {.blocks = cuda::blocks_for(count, kThreads), .threads = kThreads}; }

/// A warp or a block for each of `rows` rows.
template <class Arguments>
void launch_for_rows(const cuda::Context& context, std::string_view name, void (*one_warp)(Arguments),
                     void (*one_block)(Arguments), std::int64_t rows, std::int64_t extent, const Arguments& a) {
  if (extent <= kWarpColumns)
    cuda::launch_kernel(context, name, one_warp, {.blocks = cuda::blocks_for(rows, kWarps), .threads = kThreads}, a);
  else
    cuda::launch_kernel(context, name, one_block, {.blocks = rows, .threads = kThreads}, a);
}

}  // namespace

template <class T>
void ReduceSum::cuda(const cuda::Context& context, const Arguments<T>& a) {
  using W = Wide<T>;
  if (a.outer * a.inner == 0) return;
  const std::int64_t chunk = a.inner == 1 ? kRowChunk : kColumnChunk;
  const std::int64_t chunks = std::max<std::int64_t>(1, cuda::blocks_for(a.extent, chunk));
  if (a.inner == 1 && chunks == 1) return launch_rows<W>(context, a.outer, a.extent, 1, chunk, a.x, a.y);
  if (chunks == 1) return launch_columns<W>(context, a.outer, a.extent, a.inner, 1, chunk, a.x, a.y);
  const cuda::Buffer<W> partial(context, a.outer * chunks * a.inner);
  if (a.inner == 1) {
    launch_rows<W>(context, a.outer, a.extent, chunks, chunk, a.x, partial.data());
    launch_rows<double>(context, a.outer, chunks, 1, chunks, static_cast<const W*>(partial.data()), a.y);
  } else {
    launch_columns<W>(context, a.outer, a.extent, a.inner, chunks, chunk, a.x, partial.data());
    launch_columns<double>(context, a.outer, chunks, a.inner, 1, chunks, static_cast<const W*>(partial.data()), a.y);
  }
}

template <class T>
void ArgMax::cuda(const cuda::Context& context, const Arguments<T>& a) {
  if (a.inner == 1)
    launch_for_rows(context, name, arg_max_rows<kWarp, T>, arg_max_rows<kThreads, T>, a.outer, a.extent, a);
  else
    cuda::launch_kernel(context, name, arg_max_columns<T>, one_each(a.outer * a.inner), a);
}

template <class T>
void MaxBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, max_backward<T>, one_each(a.outer * a.extent * a.inner), a);
}

template <class T>
void LogSumExp::cuda(const cuda::Context& context, const Arguments<T>& a) {
  if (a.inner == 1)
    launch_for_rows(context, name, log_sum_exp_rows<kWarp, T>, log_sum_exp_rows<kThreads, T>, a.outer, a.extent, a);
  else
    cuda::launch_kernel(context, name, log_sum_exp_columns<T>, one_each(a.outer * a.inner), a);
}

template <class T>
void LogSumExpBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, log_sum_exp_backward<T>, one_each(a.outer * a.extent * a.inner), a);
}

template void ReduceSum::cuda(const cuda::Context&, const Arguments<float>&);
template void ReduceSum::cuda(const cuda::Context&, const Arguments<double>&);
template void ReduceSum::cuda(const cuda::Context&, const Arguments<bf16>&);
template void ReduceSum::cuda(const cuda::Context&, const Arguments<f16>&);

template void ArgMax::cuda(const cuda::Context&, const Arguments<float>&);
template void ArgMax::cuda(const cuda::Context&, const Arguments<double>&);
template void ArgMax::cuda(const cuda::Context&, const Arguments<bf16>&);
template void ArgMax::cuda(const cuda::Context&, const Arguments<f16>&);

template void MaxBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void MaxBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void MaxBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void MaxBackward::cuda(const cuda::Context&, const Arguments<f16>&);

template void LogSumExp::cuda(const cuda::Context&, const Arguments<float>&);
template void LogSumExp::cuda(const cuda::Context&, const Arguments<double>&);
template void LogSumExp::cuda(const cuda::Context&, const Arguments<bf16>&);
template void LogSumExp::cuda(const cuda::Context&, const Arguments<f16>&);

template void LogSumExpBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void LogSumExpBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void LogSumExpBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void LogSumExpBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
