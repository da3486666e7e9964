// tensor/cpu/gemm_paths.h: the ways in which gemm() computes a product. Internal to tensor/cpu; others call gemm().
// All take checked arguments with m, n, k ≥ 1, α ≠ 0 and batch counts ≥ 1.
#pragma once

#include "tensor/cpu/gemm.h"

namespace sq::cpu {

/// The own blocked kernels: any product.
template <class T, class A, class B>
void gemm_blocked(const GemmArguments<T, A, B>& arguments);

/// Products whose time is that of reading one operand once.
bool has_few_rows(std::int64_t m, std::int64_t n);
template <class T, class A, class B>
void gemm_few_rows(const GemmArguments<T, A, B>& arguments);

/// OpenBLAS on fixed blocks of C: products with extents that it can count.
template <class T>
bool suits_openblas(const GemmArguments<T>& arguments);
template <class T>
void gemm_openblas(const GemmArguments<T>& arguments);

/// The product of one matrix of the batch.
template <class T, class A, class B>
GemmArguments<T, A, B> one_matrix(const GemmArguments<T, A, B>& g, std::int64_t number) {
  GemmArguments<T, A, B> one = g;
  const std::int64_t outer = number / g.batch.count, inner = number % g.batch.count;
  one.a += outer * g.outer_batch.stride_a + inner * g.batch.stride_a;
  one.b += outer * g.outer_batch.stride_b + inner * g.batch.stride_b;
  one.c += outer * g.outer_batch.stride_c + inner * g.batch.stride_c;
  one.batch = one.outer_batch = {};
  return one;
}

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace sq::cpu
