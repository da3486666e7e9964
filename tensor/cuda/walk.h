// tensor/cuda/walk.h: tensors of one shape and any strides inside kernels.
#pragma once

#include "tensor/cuda/threads.h"
#include "tensor/shape.h"

#include <array>

namespace sq::cuda {

/// The offsets of an element in N tensors, from its row-major number. Axes of extent 1 vanish and neighbours are merged
/// where every tensor steps through them evenly: tensors that lie alike become one axis.
template <int N>
struct Walk {
  int rank = 0;
  std::int64_t extents[Shape::kMaxRank] = {};
  std::int64_t strides[N][Shape::kMaxRank] = {};

  Walk(const Shape& shape, const std::array<Shape, N>& all) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] == 1) continue;
      bool merge = rank > 0;
      for (int k = 0; merge && k < N; ++k)
        merge = strides[k][rank - 1] == all[static_cast<std::size_t>(k)][axis] * shape[axis];
      if (!merge) ++rank;
      extents[rank - 1] = merge ? extents[rank - 1] * shape[axis] : shape[axis];
      for (int k = 0; k < N; ++k) strides[k][rank - 1] = all[static_cast<std::size_t>(k)][axis];
    }
    if (rank == 0) {
      rank = 1;
      extents[0] = 1;
      for (int k = 0; k < N; ++k) strides[k][0] = 1;
    }
  }

  /// True when operand k lies in one row with that step.
  bool is_row(int k, std::int64_t step) const { return rank == 1 && strides[k][0] == step; }

  /// Sets offset[k] for each tensor.
  __device__ void locate(std::int64_t number, std::int64_t (&offset)[N]) const {
    for (int k = 0; k < N; ++k) offset[k] = 0;
    for (int axis = rank - 1; axis > 0; --axis) {
      // 32-bit division is several times faster
      const std::int64_t extent = extents[axis];
      const std::int64_t quotient = number <= 0xffffffffll && extent <= 0xffffffffll
                                        ? static_cast<std::uint32_t>(number) / static_cast<std::uint32_t>(extent)
                                        : number / extent;
      const std::int64_t place = number - quotient * extent;
      for (int k = 0; k < N; ++k) offset[k] += place * strides[k][axis];
      number = quotient;
    }
    for (int k = 0; k < N; ++k) offset[k] += number * strides[k][0];
  }
};

}  // namespace sq::cuda
