// ops/cuda/swiglu.cu: every operand is read once, 16 bytes a thread where rows allow it.
#include "ops/cuda/row.h"
#include "ops/swiglu.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

/// σ(x) through e^-|x|, which never overflows: 1/(1+e) for x >= 0, e/(1+e) below.
template <class W>
__device__ inline W logistic(W x) {
  const W e = cuda::exp(x < 0 ? x : -x);
  return (x < 0 ? e : W(1)) / (1 + e);
}

/// The row and the first column of thread number `i`, when each takes P of `columns` columns.
struct Place {
  std::int64_t row, column;
};
template <int P>
__device__ inline Place place_of(std::int64_t i, std::int64_t columns) {
  const std::int64_t packs = columns / P, row = quotient(i, packs);
  return {row, (i - row * packs) * P};
}

template <int P, class T>
__global__ void __launch_bounds__(kRowThreads) forward(SwigluForward::Arguments<T> a) {
  const std::int64_t i = cuda::global_index();
  if (i >= a.rows * (a.columns / P)) return;
  const Place at = place_of<P>(i, a.columns);
  const auto gate = Values<T, P>::load(a.gate + at.row * a.gate_step + at.column);
  const auto up = Values<T, P>::load(a.up + at.row * a.up_step + at.column);
  Values<T, P> y;
#pragma unroll
  for (int k = 0; k < P; ++k) y[k] = gate[k] * logistic(gate[k]) * up[k];
  y.store(a.y + at.row * a.columns + at.column);
}

template <int P, class T>
__global__ void __launch_bounds__(kRowThreads) backward(SwigluBackward::Arguments<T> a) {
  using W = Wide<T>;
  const std::int64_t i = cuda::global_index();
  if (i >= a.rows * (a.columns / P)) return;
  const Place at = place_of<P>(i, a.columns);
  const auto gate = Values<T, P>::load(a.gate + at.row * a.gate_step + at.column);
  const auto up = Values<T, P>::load(a.up + at.row * a.up_step + at.column);
  const auto dy = Values<T, P>::load(a.dy + at.row * a.dy_step + at.column);
  Values<T, P> dgate, dup;
#pragma unroll
  for (int k = 0; k < P; ++k) {
    const W s = logistic(gate[k]), silu = gate[k] * s;
    // σ(1 + g(1 - σ)) = σ + silu·(1 - σ)
    dgate[k] = dy[k] * up[k] * (s + silu - silu * s);
    dup[k] = dy[k] * silu;
  }
  dgate.store(a.dgate + at.row * a.columns + at.column);
  dup.store(a.dup + at.row * a.columns + at.column);
}

/// Rows that follow each other without a gap in all operands are one row.
template <class Arguments>
void join_rows(Arguments& a, std::initializer_list<std::int64_t*> steps) {
  for (const std::int64_t* step : steps)
    if (*step != a.columns) return;
  a.columns *= a.rows;
  a.rows = 1;
  for (std::int64_t* step : steps) *step = a.columns;
}

template <class T>
bool in_packs(const T* pointer, std::int64_t step) {
  return cuda::is_aligned(pointer) && step % cuda::kPack<T> == 0;
}

template <class Arguments, class Kernel>
void launch_each(const cuda::Context& context, std::string_view name, const Arguments& a, std::int64_t pack,
                 Kernel kernel) {
  cuda::launch_kernel(context, name, kernel,
                      {.blocks = cuda::blocks_for(a.rows * (a.columns / pack), kRowThreads), .threads = kRowThreads},
                      a);
}

}  // namespace

template <class T>
void SwigluForward::cuda(const cuda::Context& context, const Arguments<T>& arguments) {
  constexpr int P = cuda::kPack<T>;
  Arguments<T> a = arguments;
  join_rows(a, {&a.gate_step, &a.up_step});
  if (a.columns % P == 0 && in_packs(a.gate, a.gate_step) && in_packs(a.up, a.up_step) && cuda::is_aligned(a.y))
    launch_each(context, name, a, P, forward<P, T>);
  else
    launch_each(context, name, a, 1, forward<1, T>);
}
template void SwigluForward::cuda(const cuda::Context&, const Arguments<float>&);
template void SwigluForward::cuda(const cuda::Context&, const Arguments<double>&);
template void SwigluForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SwigluForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void SwigluBackward::cuda(const cuda::Context& context, const Arguments<T>& arguments) {
  constexpr int P = cuda::kPack<T>;
  Arguments<T> a = arguments;
  join_rows(a, {&a.gate_step, &a.up_step, &a.dy_step});
  if (a.columns % P == 0 && in_packs(a.gate, a.gate_step) && in_packs(a.up, a.up_step) && in_packs(a.dy, a.dy_step) &&
      cuda::is_aligned(a.dgate) && cuda::is_aligned(a.dup))
    launch_each(context, name, a, P, backward<P, T>);
  else
    launch_each(context, name, a, 1, backward<1, T>);
}
template void SwigluBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void SwigluBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void SwigluBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void SwigluBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
