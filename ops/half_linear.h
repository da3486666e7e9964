// ops/half_linear.h: a linear layer whose weight is kept in 16 bits.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// y = x·Wᵀ + b: x f32 [..,in], weight bf16 or f16 [out,in], row-major, bias f32 [out] or undefined. Result f32
/// [..,out]. The weight is widened on its way into the sums, so that it costs half the memory and, where few rows are
/// multiplied (decoding), half the time of an f32 weight; nothing but the weight itself is rounded. For inference: dx =
/// dy·W and db = Σ_rows dy are there, a gradient of the weight is not. linear() (ops/matmul.h) comes here for such
/// operands. Throws Error on other shapes and dtypes, and when the weight needs a gradient.
Tensor half_linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

namespace kernel {

/// y = x·Wᵀ + bias or, untransposed, x·W.
struct HalfWeightProduct {
  static constexpr std::string_view name = "half_linear";
  static constexpr bool cpu_takes_halves = true;
  template <class T>
  struct Arguments {
    std::int64_t rows, in, out;
    const float* x;   // [rows, in]
    const T* weight;  // [out, in], or [in, out] when not transposed
    bool transposed;
    const float* bias;  // [out], or null
    float* y;           // [rows, out]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return {.flops = 2 * static_cast<double>(a.rows) * static_cast<double>(a.in * a.out),
            .bytes = Work::moving<T>(a.in * a.out).bytes + Work::moving<float>(a.rows * (a.in + a.out)).bytes};
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
