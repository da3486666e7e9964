// tensor/cuda/reduce.h: one number out of those of a warp's or a block's threads. The order of additions is fixed, so
// the same input gives the same bits in every run; every thread gets the result.
#pragma once

#include "tensor/cuda/numbers.h"

namespace sq::cuda {

struct Plus {
  template <class T>
  __device__ static T identity() {
    return T(0);
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// The largest; NaN if there is one.
struct Largest {
  template <class T>
  __device__ static T identity() {
    return -infinity<T>();
  }
  template <class T>
  __device__ T operator()(T a, T b) const {
    return larger(a, b);
  }
};

/// Combines the values of the 32 lanes (of each group of `Width` neighbours) in a butterfly: in step s, lane i with
/// lane i xor s, s = Width/2 … 1. Where a and b commute all lanes have the same bits.
template <class Combine, int Width = kWarp, class T>
__device__ inline T warp_reduce(T value, Combine combine = {}) {
#ifdef __CUDACC__
#pragma unroll
  for (int step = Width / 2; step > 0; step /= 2) value = combine(value, shuffle_xor(value, step));
#else
  // the same in one meeting of the lanes instead of five
  emulation::collective(
      kAllLanes, &value,
      [](void* const* lanes, unsigned) {
        T before[kWarp];
        for (int step = Width / 2; step > 0; step /= 2) {
          for (int lane = 0; lane < kWarp; ++lane) before[lane] = *static_cast<T*>(lanes[lane]);
          for (int lane = 0; lane < kWarp; ++lane)
            *static_cast<T*>(lanes[lane]) = Combine{}(before[lane], before[lane ^ step]);
        }
      },
      "warp_reduce");
  (void)combine;
#endif
  return value;
}

/// Combines the values of all threads of the block: warps first, then the warps' results by each warp for itself. Two
/// barriers; all threads of the block must call.
template <class Combine, class T>
__device__ inline T block_reduce(T value, Combine combine = {}) {
  value = warp_reduce<Combine>(value, combine);
  if (thread_count() == kWarp) return value;
  struct Tag;
  T* partial = static_shared<T, kWarp, Tag>();
  sync_threads();  // the array may still be read by those who come from the reduction before
  if (lane_index() == 0) partial[warp_index()] = value;
  sync_threads();
  return warp_reduce<Combine>(lane_index() < warp_count() ? partial[lane_index()] : Combine::template identity<T>(),
                              combine);
}

template <class T>
__device__ inline T warp_sum(T value) {
  return warp_reduce<Plus>(value);
}
template <class T>
__device__ inline T warp_max(T value) {
  return warp_reduce<Largest>(value);
}
template <class T>
__device__ inline T block_sum(T value) {
  return block_reduce<Plus>(value);
}
template <class T>
__device__ inline T block_max(T value) {
  return block_reduce<Largest>(value);
}

}  // namespace sq::cuda
