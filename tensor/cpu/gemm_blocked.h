// tensor/cpu/gemm_blocked.h: the library's own GEMM. Internal to tensor/cpu; others call gemm().
#pragma once

#include "tensor/cpu/gemm.h"

namespace sq::cpu {

/// gemm() for checked arguments with m, n, k ≥ 1, α ≠ 0 and batch counts ≥ 1.
template <class T, class A, class B>
void gemm_blocked(const GemmArguments<T, A, B>& arguments);

}  // namespace sq::cpu
