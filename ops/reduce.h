// ops/reduce.h: many numbers become one, along any axes.
//
// All take tensors of any float dtype and strides; 16-bit floats are computed in f32. The reduced axes vanish, or stay
// with extent 1 when `keep` is true. An empty list of axes means all of them. Sums are formed in f32 (f64 for f64)
// within fixed blocks, and the blocks are added in order in f64: the bits depend on the shape, never on the number of
// threads. All throw Error on an axis out of range or named twice.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

using Axes = std::vector<int>;

/// Σ x; 0 where there is nothing to add. dx = dy, spread out.
Tensor sum(const Tensor& x, const Axes& axes = {}, bool keep = false);
/// Σ x / n; NaN where n = 0. dx = dy / n.
Tensor mean(const Tensor& x, const Axes& axes = {}, bool keep = false);
/// The inverse of broadcasting: `x` summed over the axes along which `shape` would be repeated to become x.shape().
/// Throws Error when `shape` does not broadcast to x.shape(). dx = expand(dy).
Tensor sum_to(const Tensor& x, const Shape& shape);

/// The largest element; NaN where there is one. The gradient goes to the first of several largest elements (to the
/// first NaN). Throws Error where there is nothing to choose from.
Tensor max(const Tensor& x, const Axes& axes = {}, bool keep = false);
/// The index of that element along one axis, as i64. Throws Error where the axis is empty.
Tensor argmax(const Tensor& x, int axis, bool keep = false);

/// ln Σ e^x, formed as m + ln Σ e^(x-m) with m = max x; -∞ where all are -∞ or there is nothing to add, +∞ where one is
/// +∞. dx = dy·e^(x-y), the softmax; 0 where y = -∞.
Tensor logsumexp(const Tensor& x, const Axes& axes = {}, bool keep = false);

namespace kernel {

/// y[o,i] = Σ_r x[o,r,i]
struct ReduceSum {
  static constexpr std::string_view name = "sum";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner;
    const T* x;  // [outer, extent, inner]
    T* y;        // [outer, inner]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(a.outer * (a.extent + 1) * a.inner);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// The index r of the largest x[o,r,i], the first of equals, a NaN counting as larger than all; extent >= 1.
struct ArgMax {
  static constexpr std::string_view name = "argmax";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner;
    const T* x;
    std::int64_t* index;  // [outer, inner]
    T* y;                 // the elements themselves
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// dx[o,r,i] = dy[o,i] where r = index[o,i], else 0
struct MaxBackward {
  static constexpr std::string_view name = "max_backward";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner;
    const std::int64_t* index;
    const T* dy;
    T* dx;
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// y[o,i] = ln Σ_r e^x[o,r,i]
struct LogSumExp {
  static constexpr std::string_view name = "logsumexp";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner;
    const T* x;
    T* y;
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// dx[o,r,i] = dy[o,i]·e^(x[o,r,i] - y[o,i])
struct LogSumExpBackward {
  static constexpr std::string_view name = "logsumexp_backward";
  template <class T>
  struct Arguments {
    std::int64_t outer, extent, inner;
    const T* x;
    const T* y;
    const T* dy;
    T* dx;
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
