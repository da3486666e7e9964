// tensor/cpu/gemm_kernels.h: what gemm_blocked.cpp asks of the vector kernels. Internal to tensor/cpu.
#pragma once

#include "tensor/dtype.h"

#include <cstdint>

namespace sq::cpu {

/// One block of C, computed by one thread: C ← α·A·B + β·C + bias with A [rows, depth] and B [depth, columns].
/// A is read in panels of `tile_rows` rows: element (i, p) of panel q is a[q·a_panel + i·a_row + p·a_step]; with
/// a_panel = tile_rows·a_row that is any strided matrix, packed or not, transposed or not.
/// B is read in panels of `tile_columns` columns: element (p, j) of panel q is b[q·b_panel + p·b_step + j].
template <class T>
struct GemmBlock {
  std::int64_t rows = 0, columns = 0, depth = 0;
  const T* a = nullptr;
  std::int64_t a_panel = 0, a_row = 0, a_step = 0;
  const T* b = nullptr;
  std::int64_t b_panel = 0, b_step = 0;
  T* c = nullptr;
  std::int64_t ldc = 0;
  T alpha = 1, beta = 0;
  const T* bias = nullptr;
};

/// The block kernel for the vector instructions in use, the size of its register tile, and the elements of a vector.
template <class T>
struct GemmKernels {
  std::int64_t tile_rows, tile_columns, lanes;
  void (*multiply)(const GemmBlock<T>&);
};
template <class T>
GemmKernels<T> gemm_kernels();  // float, double

/// Copying a part of an operand, stored as S, into panels of T: column j of step p goes to
/// target[(j / panel_width)·panel_width·depth + p·panel_width + j % panel_width]; the last panel is filled up with
/// zeros. For A, "column" means row of op(A).
template <class T, class S>
struct PackKernels {
  using Pack = void (*)(const S* source, std::int64_t source_row, std::int64_t columns, std::int64_t depth,
                        std::int64_t panel_width, T* target);
  Pack panels;             // (p, j) is source[p·source_row + j]
  Pack panels_transposed;  // (p, j) is source[j·source_row + p]
};
template <class T, class S>
PackKernels<T, S> pack_kernels();  // T = S, or T float and S bf16 or f16

}  // namespace sq::cpu
