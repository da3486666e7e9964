// tensor/cuda/gemm.h: the one matrix product of the library on a GPU (cuBLAS, cuBLASLt).
#pragma once

#include "tensor/cuda/context.h"
#include "tensor/dtype.h"

#include <cstdint>

namespace sq::cuda {

/// One level of a batch: matrix number i of A, B and C starts i·stride elements behind the first.
/// A stride of 0 uses the same A or B for the whole level; C needs a stride that keeps its matrices apart.
struct GemmBatch {
  std::int64_t count = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;
};

/// C ← α·op(A)·op(B) + β·C + bias for row-major matrices, as tensor/cpu/gemm.h has it:
///   op(A) [m,k], stored as A [m,k] or, transposed, as A [k,m]; a row of the stored matrix starts every `lda` elements.
///   op(B) [k,n], stored as B [k,n] or, transposed, as B [n,k] (a Linear's weight), every `ldb` elements.
///   C [m,n], every `ldc` elements. bias [n] or none, added to each row.
/// T, the type of A and B, is float, double, bf16 or f16; C, that of C and of the bias, is T, or float where T is a
/// 16-bit type. Sums are formed in f64 for double and in f32 for all others.
template <class T, class C = T>
struct GemmArguments {
  std::int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  std::int64_t lda = 0;
  bool transpose_a = false;
  const T* b = nullptr;
  std::int64_t ldb = 0;
  bool transpose_b = false;
  C* c = nullptr;
  std::int64_t ldc = 0;
  double alpha = 1, beta = 0;
  const C* bias = nullptr;
  GemmBatch batch = {}, outer_batch = {};  // two levels, for instance heads within sequences
  bool tf32 = false;  // f32 operands may be rounded to 10 bits of mantissa on tensor cores: several times faster
};

/// Gives the product to the context's stream. Any m, n, k and batch counts ≥ 0: with k = 0, C ← β·C + bias; with β = 0,
/// C is not read. The same arguments give the same bits in every run. Throws Error when cuBLAS fails, naming the sizes.
/// Instantiated for (T, C): (float, float), (double, double), (bf16, bf16), (bf16, float), (f16, f16), (f16, float).
template <class T, class C>
void gemm(const Context& context, const GemmArguments<T, C>& arguments);

}  // namespace sq::cuda
