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

/// The block kernel for the vector instructions in use, and the size of its register tile.
template <class T>
struct GemmKernels {
  std::int64_t tile_rows, tile_columns;
  void (*multiply)(const GemmBlock<T>&);
};
template <class T>
GemmKernels<T> gemm_kernels();  // float, double

/// Copying a part of an operand, stored as S, into an array of T in the order in which the block kernel reads it.
template <class T, class S>
struct PackKernels {
  /// `count` rows of `depth` contiguous elements: target[i·target_row + p] = source[i·source_row + p].
  void (*rows)(const S* source, std::int64_t source_row, std::int64_t count, std::int64_t depth, T* target,
               std::int64_t target_row);
  /// A panel of `width` ≤ `panel_width` columns: target[p·panel_width + j] = source[p·source_row + j], zeros beyond.
  void (*panel)(const S* source, std::int64_t source_row, std::int64_t width, std::int64_t depth,
                std::int64_t panel_width, T* target);
  /// The same from transposed storage: target[p·panel_width + j] = source[j·source_row + p].
  void (*panel_transposed)(const S* source, std::int64_t source_row, std::int64_t width, std::int64_t depth,
                           std::int64_t panel_width, T* target);
};
template <class T, class S>
PackKernels<T, S> pack_kernels();  // T = S, or T float and S bf16 or f16

}  // namespace sq::cpu
