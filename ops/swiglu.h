// ops/swiglu.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// y = silu(g) ⊙ u  with  silu(g) = g · σ(g),  σ(g) = 1 / (1 + e^-g)                           (Shazeer 2020, eq. 5)
/// gate g and up u of one shape, float dtype and device. Result: the same shape. The halves of one wider projection
/// (slices along the last axis) are read in place.
/// Saves g and u.  dg = dy · u · σ(g) · (1 + g · (1 - σ(g))),  du = dy · silu(g).
/// Throws Error when the two differ in shape, dtype or device.
Tensor swiglu(const Tensor& gate, const Tensor& up);

namespace kernel {

struct SwigluForward {
  static constexpr std::string_view name = "swiglu";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* gate;  // [rows, columns], a row every gate_step elements
    std::int64_t gate_step;
    const T* up;
    std::int64_t up_step;
    T* y;  // [rows, columns]
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

struct SwigluBackward {
  static constexpr std::string_view name = "swiglu_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* gate;
    std::int64_t gate_step;
    const T* up;
    std::int64_t up_step;
    const T* dy;
    std::int64_t dy_step;
    T* dgate;  // [rows, columns]
    T* dup;    // [rows, columns]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(5 * a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
