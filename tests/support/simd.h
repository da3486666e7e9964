// tests/support/simd.h: the tests with narrower vectors than the processor's best.
#pragma once

#include <hwy/highway.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace sq::test {

/// Leaves the kernels only what the environment variable SUBQUAD_TEST_SIMD allows: "sse4", "avx2" or "avx512". To be
/// called before the first kernel, which is when Highway chooses. Ends the program when the processor has no such
/// vectors: a test that ran with others would prove nothing. The matrix products of OpenBLAS are not affected.
inline void limit_simd() {
#if HWY_ARCH_X86
  const char* wanted = std::getenv("SUBQUAD_TEST_SIMD");
  if (wanted == nullptr) return;
  const std::string_view name = wanted;
  const std::int64_t target = name == "sse4" ? HWY_SSE4 : name == "avx2" ? HWY_AVX2 : name == "avx512" ? HWY_AVX3 : 0;
  const std::int64_t supported = hwy::SupportedTargets();
  if ((supported & target) == 0) {
    std::fprintf(stderr, "SUBQUAD_TEST_SIMD=%s: not known here; use sse4, avx2 or avx512\n", wanted);
    std::exit(2);
  }
  hwy::SetSupportedTargetsForTest(supported & -target);  // a better target has a lower bit
#endif
}

}  // namespace sq::test
