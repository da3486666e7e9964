// ops/rms_norm.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// y = x · r · g  with  r = (mean_c x² + ε)^(-1/2)                      (Zhang & Sennrich 2019, eq. 4)
/// x [..., C] of any float dtype, gain [C] of the same dtype and device. Result [..., C].
/// Saves x, gain, r.  With s = mean_c(dy·g·x):  dx = r·g·dy - r³·s·x,  dg = Σ_rows dy·x·r.
/// Throws Error on a shape, dtype or device mismatch, on C = 0 and on ε <= 0.
Tensor rms_norm(const Tensor& x, const Tensor& gain, double epsilon = 1e-6);

namespace kernel {

struct RmsNormForward {
  static constexpr std::string_view name = "rms_norm";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* x;     // [rows, columns]
    const T* gain;  // [columns]
    double epsilon;
    T* y;               // [rows, columns]
    Accumulator<T>* r;  // [rows]
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

struct RmsNormBackward {
  static constexpr std::string_view name = "rms_norm_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* x;
    const T* gain;
    const Accumulator<T>* r;
    const T* dy;
    T* dx;     // [rows, columns], or null when not wanted
    T* dgain;  // [columns], or null when not wanted
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
