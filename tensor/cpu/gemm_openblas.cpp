// OpenBLAS as the engine of large products. It is always called with one thread, for one block of C at a time; the
// blocks are a function of the problem alone, because its rounding depends on where a block ends.

#include "tensor/cpu/gemm_paths.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <limits>

#ifdef SUBQUAD_OPENBLAS
#include <cblas.h>
#endif

namespace sq::cpu {

#ifdef SUBQUAD_OPENBLAS
namespace {

constexpr std::int64_t kBlock = 512;                         // rows and columns of a block at most
constexpr std::int64_t kEnoughBlocks = 8;                    // below that, blocks are halved …
constexpr std::int64_t kSmallBlock = std::int64_t{1} << 24;  // … down to this many multiply-adds

void call(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, float alpha, const float* a, int lda,
          const float* b, int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void call(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, double alpha, const double* a, int lda,
          const double* b, int ldb, double beta, double* c, int ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

/// Rows [row, row + rows) × columns [column, column + columns) of C for one matrix.
template <class T>
void multiply_block(const GemmArguments<T>& g, std::int64_t row, std::int64_t rows, std::int64_t column,
                    std::int64_t columns) {
  const bool ta = g.transpose_a == Transpose::yes, tb = g.transpose_b == Transpose::yes;
  T* c = g.c + row * g.ldc + column;
  call(ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, static_cast<int>(rows),
       static_cast<int>(columns), static_cast<int>(g.k), g.alpha, g.a + (ta ? row : row * g.lda),
       static_cast<int>(g.lda), g.b + (tb ? column * g.ldb : column), static_cast<int>(g.ldb), g.beta, c,
       static_cast<int>(g.ldc));
  if (g.bias == nullptr) return;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) c[i * g.ldc + j] += g.bias[column + j];
}

}  // namespace

template <class T>
bool suits_openblas(const GemmArguments<T>& g) {
  const std::int64_t largest = std::max({g.m, g.n, g.k, g.lda, g.ldb, g.ldc});
  return largest <= std::numeric_limits<int>::max();
}

template <class T>
void gemm_openblas(const GemmArguments<T>& g) {
  if (openblas_get_num_threads() != 1) openblas_set_num_threads(1);
  const std::int64_t matrices = g.batch.count * g.outer_batch.count;
  std::int64_t rows = std::min(g.m, kBlock), columns = std::min(g.n, kBlock);
  while (matrices * divide_up(g.m, rows) * divide_up(g.n, columns) < kEnoughBlocks &&
         rows * columns * g.k > kSmallBlock)
    (rows >= columns ? rows : columns) = divide_up(std::max(rows, columns), 2);
  const std::int64_t row_blocks = divide_up(g.m, rows), column_blocks = divide_up(g.n, columns);
  rows = divide_up(divide_up(g.m, row_blocks), 16) * 16;
  columns = divide_up(divide_up(g.n, column_blocks), 16) * 16;
  parallel_for(matrices * row_blocks * column_blocks, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t row = task / column_blocks % row_blocks * rows, column = task % column_blocks * columns;
    if (row >= g.m || column >= g.n) return;  // rounding up to 16 may leave the last blocks empty
    multiply_block(one_matrix(g, task / (row_blocks * column_blocks)), row, std::min(rows, g.m - row), column,
                   std::min(columns, g.n - column));
  });
}

#else

template <class T>
bool suits_openblas(const GemmArguments<T>&) {
  return false;
}
template <class T>
void gemm_openblas(const GemmArguments<T>&) {}

#endif

template bool suits_openblas(const GemmArguments<double>&);
template bool suits_openblas(const GemmArguments<float>&);
template void gemm_openblas(const GemmArguments<double>&);
template void gemm_openblas(const GemmArguments<float>&);

}  // namespace sq::cpu
