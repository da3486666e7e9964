// tensor/cpu/gemm.h: the one matrix product of the library on the CPU.
#pragma once

#include "tensor/dtype.h"

#include <cstdint>

namespace sq::cpu {

enum class Transpose : bool { no, yes };

/// One level of a batch: matrix number i of A, B and C starts i·stride elements behind the first.
/// A stride of 0 uses the same A or B for the whole level; C needs a stride that keeps its matrices apart.
struct GemmBatch {
  std::int64_t count = 1;
  std::int64_t stride_a = 0, stride_b = 0, stride_c = 0;
};

/// C ← α·op(A)·op(B) + β·C + bias for row-major matrices:
///   op(A) [m,k], stored as A [m,k] or, transposed, as A [k,m]; a row of the stored matrix starts every `lda` elements.
///   op(B) [k,n], stored as B [k,n] or, transposed, as B [n,k] (a Linear's weight), every `ldb` elements.
///   C [m,n], every `ldc` elements; what lies between its rows is left alone. bias [n] or none, added to each row.
/// T, the type of C and of the arithmetic, is float or double. With T = float the elements of A, B or both may be
/// stored as bf16 or f16: they are widened on the way in.
template <class T, class A = T, class B = T>
struct GemmArguments {
  std::int64_t m = 0, n = 0, k = 0;
  const A* a = nullptr;
  std::int64_t lda = 0;
  Transpose transpose_a = Transpose::no;
  const B* b = nullptr;
  std::int64_t ldb = 0;
  Transpose transpose_b = Transpose::no;
  T* c = nullptr;
  std::int64_t ldc = 0;
  T alpha = 1, beta = 0;
  const T* bias = nullptr;
  GemmBatch batch = {}, outer_batch = {};  // two levels, for instance heads within sequences
};

/// Computes the product. Any m, n, k and batch counts ≥ 0: with k = 0 or α = 0 neither A nor B is read and
/// C ← β·C + bias; with β = 0, C is not read (it may hold anything, also NaN). C must not overlap A, B or the bias.
///
/// The bits of C depend on the arguments, the backend and the CPU, never on the number of threads. An element of C
/// depends on its row of op(A) and its column of op(B) alone, so a NaN or an infinity spreads no further than the
/// mathematics says. Parallel over tiles of C and over the batch; inside a parallel_for body it runs on the calling
/// thread. After the first calls it allocates nothing.
/// Throws Error when an extent is negative, when a row stride is smaller than its row, or when the matrices of C in a
/// batch coincide.
template <class T, class A, class B>
void gemm(const GemmArguments<T, A, B>& arguments);

// Instantiated for (T, A, B): (double, double, double), and (float, A, B) with A and B each float, bf16 or f16.

}  // namespace sq::cpu
