// ops/sort.h: values in order, and where they came from.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// `values` of the input's dtype and, of the same shape, their `indices` (i64) along the sorted axis.
/// dx is dvalues put back at the indices; the indices have no gradient.
struct Sorted {
  Tensor values, indices;
};

/// All values along `axis` in ascending (or descending) order; equal values keep their order. NaN counts as larger
/// than every number. Any float dtype and strides. Throws Error on an axis out of range.
Sorted sort(const Tensor& x, int axis = -1, bool descending = false);

/// The k largest values along `axis`, largest first; among equal values the lower index comes first. NaN counts as
/// larger than every number. Throws Error unless 0 <= k <= extent.
Sorted topk(const Tensor& x, std::int64_t k, int axis = -1);

namespace kernel {

/// The first `kept` values of every row in order, with their places in the row.
struct SortRows {
  static constexpr std::string_view name = "sort";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns, kept;
    bool descending;
    const T* x;             // [rows, columns]
    T* values;              // [rows, kept]
    std::int64_t* indices;  // [rows, kept]
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// dx[row, indices[row,i]] = dvalues[row,i], 0 elsewhere.
struct SortRowsBackward {
  static constexpr std::string_view name = "sort_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns, kept;
    const std::int64_t* indices;
    const T* dvalues;
    T* dx;
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
