// Products in which one side of C is very short: a decoding step (m = 1), a matrix times a vector (n = 1), a few gates.
// The long operand W is read once, straight from where it lies; the short one, X, is copied into rows first.
//
// W stored with the summed index along its rows: every element of C is a dot product of two rows. Otherwise C is a
// combination of the rows of W; to keep the reading sequential and to have work for many threads, the rows of W are cut
// into groups of kDepth (a number that depends on nothing else), whose sums are added in order at the end.

#include "tensor/cpu/gemm_paths.h"
#include "tensor/cpu/gemv_kernels.h"
#include "tensor/cpu/scratch.h"
#include "tensor/cpu/threads.h"

#include <algorithm>

namespace sq::cpu {
namespace {

constexpr std::int64_t kDepth = 256, kColumns = 1024;  // of a task that combines rows
constexpr std::int64_t kElementsOfATask = 1 << 15;     // of W, in a task of dot products

/// C(i,j) = α·Σ_p X(i,p)·W(p,j) + β·C(i,j) + bias, i < vectors, j < n, for one matrix of a batch.
template <class T, class X, class W>
struct FewRows {
  std::int64_t vectors, n, k;
  const X* x;
  std::int64_t x_row, x_step;  // from i to i+1, from p to p+1
  const W* w;
  std::int64_t w_row;
  bool dots;  // W(p,j) is w[j·w_row + p], otherwise w[p·w_row + j]
  T* c;
  std::int64_t c_row, c_column;
  const T* bias;
  std::int64_t bias_row, bias_column;  // one of them 1, the other 0
  T alpha, beta;
};

template <class T>
struct FewRowsScratch {
  Scratch<T> x, sums, task_sums;
};
template <class T>
FewRowsScratch<T>& few_rows_scratch() {
  thread_local FewRowsScratch<T> scratch;
  return scratch;
}

/// Writes columns [first, first + count) of C from sums[i·sums_row + j − first].
template <class T, class X, class W>
void finish(const FewRows<T, X, W>& f, std::int64_t first, std::int64_t count, const T* sums, std::int64_t sums_row) {
  for (std::int64_t i = 0; i < f.vectors; ++i) {
    T* c = f.c + i * f.c_row + first * f.c_column;
    const T* sum = sums + i * sums_row;
    for (std::int64_t j = 0; j < count; ++j) {
      T value = f.alpha * sum[j];
      if (f.beta != T(0)) value += f.beta * c[j * f.c_column];
      if (f.bias != nullptr) value += f.bias[i * f.bias_row + (first + j) * f.bias_column];
      c[j * f.c_column] = value;
    }
  }
}

template <class T, class X, class W>
void multiply_dots(const FewRows<T, X, W>& f, const T* x, std::int64_t x_row) {
  const std::int64_t grain = std::max<std::int64_t>(4, kElementsOfATask / f.k / 4 * 4);
  parallel_for(f.n, grain, [&](std::int64_t first, std::int64_t last) {
    T* sums = few_rows_scratch<T>().task_sums.get(f.vectors * grain);
    gemv_kernels<T, W>().dot_rows(static_cast<int>(f.vectors), x, x_row, f.w + first * f.w_row, f.w_row, last - first,
                                  f.k, sums, grain);
    finish(f, first, last - first, sums, grain);
  });
}

template <class T, class X, class W>
void multiply_combinations(const FewRows<T, X, W>& f, const T* x, std::int64_t x_row) {
  const std::int64_t columns = std::min(f.n, kColumns), column_blocks = divide_up(f.n, columns);
  const std::int64_t depth_blocks = column_blocks >= 32 ? 1 : divide_up(f.k, kDepth);
  const std::int64_t depth = depth_blocks == 1 ? f.k : kDepth;
  // sums[depth block][vector][column]
  T* sums = few_rows_scratch<T>().sums.get(depth_blocks * f.vectors * f.n);
  const std::int64_t grain = std::max<std::int64_t>(1, kElementsOfATask / (columns * std::min(depth, f.k)));
  parallel_for(depth_blocks * column_blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t block = task / column_blocks, p = block * depth, j = task % column_blocks * columns;
      gemv_kernels<T, W>().combine_rows(static_cast<int>(f.vectors), x + p, x_row, f.w + p * f.w_row + j, f.w_row,
                                        std::min(columns, f.n - j), std::min(depth, f.k - p),
                                        sums + block * f.vectors * f.n + j, f.n);
    }
  });
  parallel_for(f.n, 1 << 13, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t block = 1; block < depth_blocks; ++block)
      for (std::int64_t i = 0; i < f.vectors; ++i) {
        const T* part = sums + (block * f.vectors + i) * f.n;
        for (std::int64_t j = first; j < last; ++j) sums[i * f.n + j] += part[j];
      }
    finish(f, first, last - first, sums + first, f.n);
  });
}

template <class T, class X, class W>
void multiply(const FewRows<T, X, W>& f) {
  const std::int64_t x_row = divide_up(f.k, kPadding) * kPadding;
  T* x = few_rows_scratch<T>().x.get(f.vectors * x_row);
  for (std::int64_t i = 0; i < f.vectors; ++i) {
    for (std::int64_t p = 0; p < f.k; ++p) x[i * x_row + p] = static_cast<T>(f.x[i * f.x_row + p * f.x_step]);
    std::fill(x + i * x_row + f.k, x + (i + 1) * x_row, T(0));
  }
  f.dots ? multiply_dots(f, x, x_row) : multiply_combinations(f, x, x_row);
}

/// The roles of the operands: X is the one with few rows.
template <class T, class A, class B>
FewRows<T, A, B> few_rows_of_a(const GemmArguments<T, A, B>& g) {
  const bool ta = g.transpose_a == Transpose::yes;
  return {.vectors = g.m,
          .n = g.n,
          .k = g.k,
          .x = g.a,
          .x_row = ta ? 1 : g.lda,
          .x_step = ta ? g.lda : 1,
          .w = g.b,
          .w_row = g.ldb,
          .dots = g.transpose_b == Transpose::yes,
          .c = g.c,
          .c_row = g.ldc,
          .c_column = 1,
          .bias = g.bias,
          .bias_row = 0,
          .bias_column = 1,
          .alpha = g.alpha,
          .beta = g.beta};
}
/// Cᵀ = op(B)ᵀ·op(A)ᵀ.
template <class T, class A, class B>
FewRows<T, B, A> few_columns_of_b(const GemmArguments<T, A, B>& g) {
  const bool tb = g.transpose_b == Transpose::yes;
  return {.vectors = g.n,
          .n = g.m,
          .k = g.k,
          .x = g.b,
          .x_row = tb ? g.ldb : 1,
          .x_step = tb ? 1 : g.ldb,
          .w = g.a,
          .w_row = g.lda,
          .dots = g.transpose_a == Transpose::no,
          .c = g.c,
          .c_row = 1,
          .c_column = g.ldc,
          .bias = g.bias,
          .bias_row = 1,
          .bias_column = 0,
          .alpha = g.alpha,
          .beta = g.beta};
}

}  // namespace

bool has_few_rows(std::int64_t m, std::int64_t n) { return m <= kMaxVectors || n <= kMaxVectors / 2; }

template <class T, class A, class B>
void gemm_few_rows(const GemmArguments<T, A, B>& g) {
  const auto one_product = [&](std::int64_t number) {
    const GemmArguments<T, A, B> one = one_matrix(g, number);
    if (g.m <= kMaxVectors && g.m <= g.n)
      multiply(few_rows_of_a(one));
    else if (g.n <= kMaxVectors)
      multiply(few_columns_of_b(one));
    else
      multiply(few_rows_of_a(one));
  };
  const std::int64_t matrices = g.batch.count * g.outer_batch.count;
  if (matrices < thread_count()) {
    for (std::int64_t i = 0; i < matrices; ++i) one_product(i);
  } else {
    const std::int64_t size = std::max(g.m, g.n) * g.k;
    parallel_for(matrices, std::max<std::int64_t>(1, kElementsOfATask / size),
                 [&](std::int64_t first, std::int64_t last) {
                   for (std::int64_t i = first; i < last; ++i) one_product(i);
                 });
  }
}

template void gemm_few_rows(const GemmArguments<double, double, double>&);
template void gemm_few_rows(const GemmArguments<float, float, float>&);
template void gemm_few_rows(const GemmArguments<float, float, bf16>&);
template void gemm_few_rows(const GemmArguments<float, float, f16>&);
template void gemm_few_rows(const GemmArguments<float, bf16, float>&);
template void gemm_few_rows(const GemmArguments<float, bf16, bf16>&);
template void gemm_few_rows(const GemmArguments<float, bf16, f16>&);
template void gemm_few_rows(const GemmArguments<float, f16, float>&);
template void gemm_few_rows(const GemmArguments<float, f16, bf16>&);
template void gemm_few_rows(const GemmArguments<float, f16, f16>&);

}  // namespace sq::cpu
