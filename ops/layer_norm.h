// ops/layer_norm.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// y = x̂ · g + b  with  x̂ = (x - μ) · r,  μ = mean_c x,  r = (mean_c (x - μ)² + ε)^(-1/2)      (Ba et al. 2016)
/// x [..., C] of any float dtype; gain g [C] and bias b [C] (or undefined: none) of the same dtype and device.
/// Result [..., C]. The variance is the biased one.
/// Saves x, g, μ, r.  With u = dy·g:  dx = r · (u - mean_c u - x̂ · mean_c(u·x̂)),  dg = Σ_rows dy·x̂,  db = Σ_rows dy.
/// Throws Error on a shape, dtype or device mismatch, on C = 0 and on ε <= 0.
Tensor layer_norm(const Tensor& x, const Tensor& gain, const Tensor& bias, double epsilon = 1e-5);

namespace kernel {

struct LayerNormForward {
  static constexpr std::string_view name = "layer_norm";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* x;     // [rows, columns]
    const T* gain;  // [columns]
    const T* bias;  // [columns] or null
    double epsilon;
    T* y;                  // [rows, columns]
    Accumulator<T>* mean;  // [rows]
    Accumulator<T>* r;     // [rows]
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

struct LayerNormBackward {
  static constexpr std::string_view name = "layer_norm_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* x;
    const T* gain;
    const Accumulator<T>* mean;
    const Accumulator<T>* r;
    const T* dy;
    T* dx;     // [rows, columns], or null when not wanted
    T* dgain;  // [columns], or null when not wanted
    T* dbias;  // [columns], or null when not wanted
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
