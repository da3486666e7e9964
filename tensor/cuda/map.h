// tensor/cuda/map.h: a function of N numbers, applied to every element of N tensors.
#pragma once

#include "tensor/cuda/numbers.h"
#include "tensor/cuda/walk.h"

namespace sq::cuda {

namespace detail {

template <class T, int N>
struct MapInputs {
  const T* at[N];
  bool repeats[N];  // one number for all elements
};

/// Where every operand is one row, or one number: 16 bytes of each a thread.
template <class T, int N, class Function>
__global__ void map_packed_kernel(MapInputs<T, N> in, T* out, std::int64_t count, Function function) {
  constexpr int P = kPack<T>;
  using W = Wide<T>;
  const std::int64_t first = global_index() * P;
  if (first >= count) return;
  const int here = count - first < P ? static_cast<int>(count - first) : P;
  W values[N][P], results[P] = {};
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (in.repeats[k]) {
      const W value = widen(*in.at[k]);
#pragma unroll
      for (int i = 0; i < P; ++i) values[k][i] = value;
    } else if (here == P) {
      const auto pack = Pack<T, P>::load(in.at[k] + first);
#pragma unroll
      for (int i = 0; i < P; ++i) values[k][i] = widen(pack.items[i]);
    } else {
#pragma unroll
      for (int i = 0; i < P; ++i) values[k][i] = i < here ? widen(in.at[k][first + i]) : W(1);
    }
  }
  function(values, results);
  if (here == P) {
    Pack<T, P> pack;
#pragma unroll
    for (int i = 0; i < P; ++i) pack.items[i] = narrow<T>(results[i]);
    pack.store(out + first);
  } else {
#pragma unroll
    for (int i = 0; i < P; ++i)
      if (i < here) out[first + i] = narrow<T>(results[i]);
  }
}

/// Any strides: an element a thread.
template <class T, int N, class Function>
__global__ void map_strided_kernel(MapInputs<T, N> in, Walk<N> walk, T* out, std::int64_t count, Function function) {
  const std::int64_t i = global_index();
  if (i >= count) return;
  std::int64_t offset[N];
  walk.locate(i, offset);
  Wide<T> values[N][1], result[1] = {};
#pragma unroll
  for (int k = 0; k < N; ++k) values[k][0] = widen(in.at[k][offset[k]]);
  function(values, result);
  out[i] = narrow<T>(result[0]);
}

}  // namespace detail

/// out ← function(in…) over `shape`, out row-major. `function` is a struct whose
/// `template <class W, int P> __device__ void operator()(const W (&in)[N][P], W (&out)[P]) const` computes P elements
/// in the type Wide<T>; a choice that is the same for all elements is made outside its loop over P.
template <class T, std::size_t N, class Function>
void map(const Context& context, std::string_view name, const Shape& shape, const std::array<const T*, N>& in,
         const std::array<Shape, N>& strides, T* out, const Function& function) {
  constexpr int kThreads = 256, kOperands = static_cast<int>(N);
  const std::int64_t count = shape.numel();
  const Walk<kOperands> walk(shape, strides);
  detail::MapInputs<T, kOperands> inputs;
  bool packed = is_aligned(out);
  for (int k = 0; k < kOperands; ++k) {
    inputs.at[k] = in[static_cast<std::size_t>(k)];
    inputs.repeats[k] = walk.is_row(k, 0);
    packed = packed && (inputs.repeats[k] || (walk.is_row(k, 1) && is_aligned(inputs.at[k])));
  }
  if (packed)
    launch_kernel(context, name, detail::map_packed_kernel<T, kOperands, Function>,
                  {.blocks = blocks_for(count, kThreads * kPack<T>), .threads = kThreads}, inputs, out, count,
                  function);
  else
    launch_kernel(context, name, detail::map_strided_kernel<T, kOperands, Function>,
                  {.blocks = blocks_for(count, kThreads), .threads = kThreads}, inputs, walk, out, count, function);
}

}  // namespace sq::cuda
