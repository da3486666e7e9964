// tensor/cpu/gemv_kernels.h: products of a few vectors with a large matrix. Internal to tensor/cpu.
#pragma once

#include "tensor/dtype.h"

#include <cstdint>

namespace sq::cpu {

constexpr int kMaxVectors = 8;

/// Kernels for `vectors` ≤ kMaxVectors rows x_i of type T, one behind the other every `x_row` elements, and a matrix W
/// stored as S, whose rows start every `w_row` elements.
template <class T, class S>
struct GemvKernels {
  /// sums[i·sums_row + j] = Σ_p x_i[p]·W[j,p] for rows j < `rows` of W, each of `depth` elements. The rows of x are
  /// zero from `depth` up to the next multiple of kPadding.
  void (*dot_rows)(int vectors, const T* x, std::int64_t x_row, const S* w, std::int64_t w_row, std::int64_t rows,
                   std::int64_t depth, T* sums, std::int64_t sums_row);
  /// sums[i·sums_row + j] = Σ_p x_i[p]·W[p,j] for columns j < `columns` and rows p < `depth` of W.
  void (*combine_rows)(int vectors, const T* x, std::int64_t x_row, const S* w, std::int64_t w_row,
                       std::int64_t columns, std::int64_t depth, T* sums, std::int64_t sums_row);
};
template <class T, class S>
GemvKernels<T, S> gemv_kernels();  // T = S, or T float and S bf16 or f16

constexpr std::int64_t kPadding = 64;  // at least the number of elements in any vector register

}  // namespace sq::cpu
