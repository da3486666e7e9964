// ops/softmax.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// y_i = e^(x_i - m) / Σ_j e^(x_j - m)  with  m = max_j x_j, along one axis (negative axes count from the end).
/// x of any float dtype and rank >= 1. Result: x's shape, laid out so that the axis is contiguous.
/// -∞ gives 0; a slice of -∞ alone, or one that holds +∞ or a NaN, gives NaN throughout.
/// Saves y.  dx = y · (dy - Σ_j dy_j y_j).  Throws Error for integers and for a wrong axis.
Tensor softmax(const Tensor& x, int axis = -1);

/// y_i = (x_i - m) - ln Σ_j e^(x_j - m): the logarithm of softmax, without overflow or cancellation.
/// Saves y.  dx = dy - e^y · Σ_j dy_j.  Otherwise as softmax.
Tensor log_softmax(const Tensor& x, int axis = -1);

namespace kernel {

struct SoftmaxForward {
  static constexpr std::string_view name = "softmax";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* x;  // [rows, columns]
    T* y;        // [rows, columns]
    bool log;    // the logarithm instead
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct SoftmaxBackward {
  static constexpr std::string_view name = "softmax_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* y;
    const T* dy;
    T* dx;  // [rows, columns]
    bool log;
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(3 * a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
