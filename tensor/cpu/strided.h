// tensor/cpu/strided.h: walking N tensors of one shape, whatever their strides, in rows as long as possible.
#pragma once

#include "tensor/cpu/threads.h"
#include "tensor/shape.h"

#include <array>

namespace sq::cpu {

/// The loop nest over one shape and N stride sets. Axes of extent 1 vanish and neighbouring axes are merged when every
/// operand steps through them evenly, so that contiguous operands become one long row.
template <std::size_t N>
class StridedLoop {
 public:
  using Offsets = std::array<std::int64_t, N>;  // elements, one per operand

  StridedLoop(const Shape& shape, const std::array<Shape, N>& strides) : numel_(shape.numel()) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] == 1) continue;
      bool merge = shape_.rank() > 0;
      for (std::size_t k = 0; merge && k < N; ++k)
        merge = strides_[k][shape_.rank() - 1] == strides[k][axis] * shape[axis];
      if (merge) {
        shape_[shape_.rank() - 1] *= shape[axis];
        for (std::size_t k = 0; k < N; ++k) strides_[k][shape_.rank() - 1] = strides[k][axis];
      } else {
        shape_.push_back(shape[axis]);
        for (std::size_t k = 0; k < N; ++k) strides_[k].push_back(strides[k][axis]);
      }
    }
    if (shape_.rank() == 0) {
      shape_.push_back(1);
      for (std::size_t k = 0; k < N; ++k) strides_[k].push_back(1);
    }
  }

  std::int64_t numel() const { return numel_; }
  /// Length of the innermost row.
  std::int64_t row_length() const { return shape_[shape_.rank() - 1]; }
  /// Element step of operand k along a row.
  std::int64_t row_stride(std::size_t k) const { return strides_[k][shape_.rank() - 1]; }

  /// Calls row(count, offsets, first) for stretches of rows that cover [0, numel) in parallel blocks of `grain`
  /// elements; `offsets` locate the stretch's first element in each operand, `first` is its row-major number.
  template <class Row>
  void run(Row&& row, std::int64_t grain = 1 << 14) const {
    parallel_for(numel_, grain, [&](std::int64_t begin, std::int64_t end) {
      const int last = shape_.rank() - 1;
      Shape index = shape_;
      Offsets offsets{};
      std::int64_t rest = begin;
      for (int axis = last; axis >= 0; --axis) {
        index[axis] = rest % shape_[axis];
        rest /= shape_[axis];
        for (std::size_t k = 0; k < N; ++k) offsets[k] += index[axis] * strides_[k][axis];
      }
      while (begin < end) {
        const std::int64_t count = std::min(end - begin, shape_[last] - index[last]);
        row(count, offsets, begin);
        begin += count;
        index[last] += count;
        for (std::size_t k = 0; k < N; ++k) offsets[k] += count * strides_[k][last];
        for (int axis = last; axis > 0 && index[axis] == shape_[axis]; --axis) {  // carry into the next outer axis
          for (std::size_t k = 0; k < N; ++k) offsets[k] += strides_[k][axis - 1] - shape_[axis] * strides_[k][axis];
          index[axis] = 0;
          ++index[axis - 1];
        }
      }
    });
  }

 private:
  std::int64_t numel_;
  Shape shape_;
  std::array<Shape, N> strides_;
};

}  // namespace sq::cpu
