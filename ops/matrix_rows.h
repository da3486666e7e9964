// ops/matrix_rows.h: tensors [B,H,T,D] as matrices of a matrix product, which wants rows that lie one behind the other.
#pragma once

#include "ops/attention_layout.h"

#include <algorithm>

namespace sq {

/// `x` itself where its rows lie so, else a packed copy.
inline Tensor matrix_rows(const Tensor& x) {
  return unit_rows(x.size(2) > 1 && x.strides()[2] < x.size(3) ? packed_copy(x) : x);
}

/// head_rows of such a tensor, with a distance of rows that a product accepts where there is one row only.
template <class T>
kernel::HeadRows<T> head_matrices(Tensor& x) {
  kernel::HeadRows<T> rows = head_rows<T>(x);
  rows.row = std::max(rows.row, x.size(3));
  return rows;
}
template <class T>
kernel::HeadRows<const T> head_matrices(const Tensor& x) {
  kernel::HeadRows<const T> rows = head_rows<T>(x);
  rows.row = std::max(rows.row, x.size(3));
  return rows;
}

}  // namespace sq
