// tensor/cuda/mma.h: products of small matrices by the 32 lanes of a warp together, on tensor cores.
//
// d[16,8] += a[16,K]·b[K,8] with K = 16 for bf16 and f16, 8 for f32 (rounded to tf32, 10 bits of mantissa); d is f32.
// Each lane holds a part of each matrix. With g = lane / 4 and t = lane % 4:
//
//   d: item 0, 1   row g,     columns 2t, 2t+1             item 2, 3   row g + 8
//   16-bit   a: pair 0   row g, columns 2t, 2t+1           pair 1      row g + 8
//               pair 2   row g, columns 2t+8, 2t+9         pair 3      row g + 8
//            b: pair 0   rows 2t, 2t+1 of column g         pair 1      rows 2t+8, 2t+9
//   tf32     a: item 0   row g, column t                   item 1      row g + 8
//               item 2   row g, column t + 4               item 3      row g + 8
//            b: item 0   row t of column g                 item 1      row t + 4
//
// A pair is two neighbouring 16-bit numbers in one 32-bit word, the first in the lower half.
#pragma once

#include "tensor/cuda/numbers.h"

namespace sq::cuda {

template <class T>
inline constexpr int kMmaDepth = sizeof(T) == 2 ? 16 : 8;

template <class T>
struct MatrixA {
  std::uint32_t word[4];
};
template <class T>
struct MatrixB {
  std::uint32_t word[2];
};
struct MatrixD {
  float item[4] = {0, 0, 0, 0};
};

/// Two 16-bit numbers as a word.
template <class T>
__device__ inline std::uint32_t pair_of(T low, T high) {
  return static_cast<std::uint32_t>(low.bits) | static_cast<std::uint32_t>(high.bits) << 16;
}
template <class T>
__device__ inline std::uint32_t pair_of(float low, float high) {
  return pair_of(narrow<T>(low), narrow<T>(high));
}

}  // namespace sq::cuda

#ifdef __CUDACC__
#include "tensor/cuda/gpu/mma.h"
#else
#include "tensor/cuda/emulation/mma.h"
#endif
