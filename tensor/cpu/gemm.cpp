#include "tensor/cpu/gemm.h"

#include "tensor/cpu/blas.h"
#include "tensor/cpu/gemm_paths.h"
#include "tensor/cpu/threads.h"
#include "tensor/error.h"

#include <algorithm>

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
  for (const GemmBatch& level : {g.batch, g.outer_batch}) {
    require(level.count >= 0, "gemm", "a batch of {} matrices is not possible", level.count);
    require(level.count <= 1 || level.stride_c != 0, "gemm", "{} products would be written to the same C", level.count);
  }
}

/// C ← β·C + bias: what is left of the product when there is nothing to sum.
template <class T, class A, class B>
void scale(const GemmArguments<T, A, B>& g) {
  const std::int64_t rows = g.outer_batch.count * g.batch.count * g.m;
  parallel_for(rows, std::max<std::int64_t>(1, (1 << 14) / g.n), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t matrix = r / g.m;
      T* c = g.c + matrix / g.batch.count * g.outer_batch.stride_c + matrix % g.batch.count * g.batch.stride_c +
             r % g.m * g.ldc;
      for (std::int64_t j = 0; j < g.n; ++j) {
        const T kept = g.beta == T(0) ? T(0) : g.beta * c[j];
        c[j] = g.bias == nullptr ? kept : kept + g.bias[j];
      }
    }
  });
}

}  // namespace

template <class T, class A, class B>
void gemm(const GemmArguments<T, A, B>& g) {
  check(g);
  if (g.m == 0 || g.n == 0 || g.batch.count == 0 || g.outer_batch.count == 0) return;
  if (g.k == 0 || g.alpha == T(0)) return scale(g);
  if (has_few_rows(g.m, g.n)) return gemm_few_rows(g);
  if constexpr (std::is_same_v<A, T> && std::is_same_v<B, T>)
    if (gemm_backend(g.m * g.n * g.k) == GemmBackend::openblas && suits_openblas(g)) return gemm_openblas(g);
  gemm_blocked(g);
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
