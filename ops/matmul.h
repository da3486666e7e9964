// ops/matmul.h: products of matrices, alone or in batches.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

#include <array>

namespace sq {

/// C = A·B over the last two axes: [..,M,K] x [..,K,N] -> [..,M,N]. The axes before them broadcast by NumPy's rule.
/// Any float dtype, both the same; 16-bit floats are multiplied and summed in f32 and the result is rounded once.
/// Operands are read where they lie when one of their last two axes has stride 1, so that transposed and sliced views
/// cost no copy; a broadcast operand is never repeated in memory; [..,M,K] x [K,N] is one product of all rows.
/// Saves a, b.  dA = dC·Bᵀ, dB = Aᵀ·dC, summed over broadcast axes.
/// Throws Error when an operand has fewer than two axes, when the inner sizes differ and when the batch axes do not
/// broadcast.
Tensor matmul(const Tensor& a, const Tensor& b);

/// y = x·Wᵀ + b: x [..,in], weight W [out,in], bias b [out] or undefined. Result [..,out]. The bias is added within the
/// product. An f32 x also meets a W of 16 bits (ops/half_linear.h). Saves x, W.  dx = dy·W;  dW = dyᵀ·x as one product
/// over all rows;  db = Σ_rows dy. Throws Error on a shape, dtype or device mismatch.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

namespace kernel {

/// C = op(A)·op(B) + bias, for every index of a batch. T is the element type of A and B; C and the bias are of the type
/// in which T is summed or, on a GPU, of type T.
struct MatrixProduct {
  static constexpr std::string_view name = "matmul";
  static constexpr bool cpu_takes_halves = true;

  /// One axis of a batch: the next matrix of A, B, C lies so many elements on.
  struct Level {
    std::int64_t count = 1, stride_a = 0, stride_b = 0, stride_c = 0;
  };

  template <class T>
  struct Arguments {
    std::int64_t m, n, k;
    const T* a;  // [m,k], or [k,m] when transposed; rows start every `lda` elements
    std::int64_t lda;
    bool transpose_a;
    const T* b;  // [k,n], or [n,k] when transposed
    std::int64_t ldb;
    bool transpose_b;
    Accumulator<T>* c;           // [m,n]; null where the result is to be rounded
    const Accumulator<T>* bias;  // [n], or null
    T* rounded;                  // [m,n], where c is null
    const T* rounded_bias;       // [n], or null
    std::array<Level, Shape::kMaxRank> levels;
    int level_count;  // levels[0] is the outermost
  };
  template <class T>
  static Work work(const Arguments<T>& a);
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
