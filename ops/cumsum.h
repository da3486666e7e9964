// ops/cumsum.h
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// y_i = Σ_{j <= i} x_j along `axis`. Any float dtype and strides; the running sum is kept in f64 and rounded at every
/// element. dx_j = Σ_{i >= j} dy_i, the same sum from the other end. Throws Error on an axis out of range.
Tensor cumsum(const Tensor& x, int axis);

namespace kernel {

/// y[o,r,i] = Σ_{s <= r} x[o,s,i], or Σ_{s >= r} when `reverse`.
struct CumulativeSum {
  static constexpr std::string_view name = "cumsum";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner;
    bool reverse;
    const T* x;
    T* y;
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
