// ops/rows.h: a tensor seen as a matrix, without a copy where its strides allow it.
#pragma once

#include "tensor/memory.h"

namespace sq {

/// Rows of `columns` neighbouring elements, each starting `step` elements after the one before.
struct Rows {
  Tensor tensor;
  std::int64_t rows = 1, columns = 1, step = 1;
};

/// All axes but the last become rows. Slices of a wider last axis (the parts of a split) need no copy; what has another
/// order of axes is packed first.
inline Rows as_rows(const Tensor& x) {
  const int last = x.rank() - 1;
  if (last < 0) return {packed(x)};
  Rows result{x, 1, x.shape()[last], x.shape()[last]};
  if (x.numel() == 0) return {x, 0, result.columns, result.columns};
  bool even = result.columns == 1 || x.strides()[last] == 1;
  bool first = true;
  for (int axis = last - 1; even && axis >= 0; --axis) {
    if (x.shape()[axis] == 1) continue;
    if (first) result.step = x.strides()[axis];
    even = x.strides()[axis] == result.step * result.rows && result.step >= result.columns;
    result.rows *= x.shape()[axis];
    first = false;
  }
  return even ? result : Rows{packed(x), x.numel() / result.columns, result.columns, result.columns};
}

}  // namespace sq
