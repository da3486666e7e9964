#include "tensor/cpu/gemm.h"

#include "tensor/cpu/threads.h"
#include "tensor/error.h"

#include <vector>

namespace sq::cpu {
namespace {

template <class T, class A, class B>
void check(const GemmArguments<T, A, B>& g) {
  require(g.m >= 0 && g.n >= 0 && g.k >= 0, "gemm", "the extents m {}, n {}, k {} must not be negative", g.m, g.n, g.k);
  const std::int64_t row_a = g.transpose_a == Transpose::yes ? g.m : g.k;
  const std::int64_t row_b = g.transpose_b == Transpose::yes ? g.k : g.n;
  require(g.lda >= row_a, "gemm", "the row stride of A is {}, but its rows have {} elements", g.lda, row_a);
  require(g.ldb >= row_b, "gemm", "the row stride of B is {}, but its rows have {} elements", g.ldb, row_b);
  require(g.ldc >= g.n, "gemm", "the row stride of C is {}, but its rows have {} elements", g.ldc, g.n);
}

template <class T, class A, class B>
void rows(const GemmArguments<T, A, B>& g, const A* a, const B* b, T* c, std::int64_t begin, std::int64_t end) {
  std::vector<T> row(static_cast<std::size_t>(g.n));
  const std::int64_t k = g.alpha == T(0) ? 0 : g.k;
  for (std::int64_t i = begin; i < end; ++i) {
    std::fill(row.begin(), row.end(), T(0));
    for (std::int64_t p = 0; p < k; ++p) {
      const T x = static_cast<T>(g.transpose_a == Transpose::yes ? a[p * g.lda + i] : a[i * g.lda + p]);
      if (g.transpose_b == Transpose::yes)
        for (std::int64_t j = 0; j < g.n; ++j) row[j] += x * static_cast<T>(b[j * g.ldb + p]);
      else
        for (std::int64_t j = 0; j < g.n; ++j) row[j] += x * static_cast<T>(b[p * g.ldb + j]);
    }
    T* out = c + i * g.ldc;
    for (std::int64_t j = 0; j < g.n; ++j) {
      T value = k == 0 ? T(0) : g.alpha * row[j];
      if (g.beta != T(0)) value += g.beta * out[j];
      out[j] = g.bias == nullptr ? value : value + g.bias[j];
    }
  }
}

}  // namespace

template <class T, class A, class B>
void gemm(const GemmArguments<T, A, B>& g) {
  check(g);
  for (std::int64_t o = 0; o < g.outer_batch.count; ++o)
    for (std::int64_t i = 0; i < g.batch.count; ++i)
      parallel_for(g.m, 8, [&](std::int64_t begin, std::int64_t end) {
        rows(g, g.a + o * g.outer_batch.stride_a + i * g.batch.stride_a,
             g.b + o * g.outer_batch.stride_b + i * g.batch.stride_b,
             g.c + o * g.outer_batch.stride_c + i * g.batch.stride_c, begin, end);
      });
}

template void gemm(const GemmArguments<double, double, double>&);
template void gemm(const GemmArguments<float, float, float>&);
template void gemm(const GemmArguments<float, float, bf16>&);
template void gemm(const GemmArguments<float, float, f16>&);
template void gemm(const GemmArguments<float, bf16, float>&);
template void gemm(const GemmArguments<float, bf16, bf16>&);
template void gemm(const GemmArguments<float, bf16, f16>&);
template void gemm(const GemmArguments<float, f16, float>&);
template void gemm(const GemmArguments<float, f16, bf16>&);
template void gemm(const GemmArguments<float, f16, f16>&);

}  // namespace sq::cpu
