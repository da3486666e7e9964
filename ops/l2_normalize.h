// ops/l2_normalize.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// y = x / max(‖x‖, ε)  with  ‖x‖ = (Σ_c x²)^½ over the last axis: unit vectors, except where x is almost 0. Keys of
/// delta rules are made so: a write of strength β then replaces the share β of what its key reads.
/// x [..., C] of any float dtype. Result [..., C].
/// Saves y and r = 1/max(‖x‖, ε).  dx = r·(dy - y·Σ_c y·dy) where ‖x‖ > ε, else dy/ε.
/// Throws Error on C = 0 and unless ε is between 1e-30 and 1e30.
Tensor l2_normalize(const Tensor& x, double epsilon = 1e-12);

namespace kernel {

struct L2NormalizeForward {
  static constexpr std::string_view name = "l2_normalize";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* x;  // [rows, columns]
    double epsilon;
    T* y;               // [rows, columns]
    Accumulator<T>* r;  // [rows]: 1 / max(‖x‖, ε)
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

struct L2NormalizeBackward {
  static constexpr std::string_view name = "l2_normalize_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* y;
    const Accumulator<T>* r;
    double epsilon;
    const T* dy;
    T* dx;  // [rows, columns]
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
