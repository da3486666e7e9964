// tensor/cpu/blas.h: which implementation multiplies matrices, and why.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

namespace sq::cpu {

enum class GemmBackend { own, openblas };

/// "own" or "openblas".
const char* name(GemmBackend backend);

/// What the OpenBLAS linked into this build says about itself; empty texts without one (-Dblas=none).
struct OpenBlas {
  bool linked = false;
  bool fits_cpu = false;  // its kernels use the vector instructions that this CPU has
  std::string core;       // the kernel set it chose, for instance "SkylakeX", "Haswell" or "Prescott"
  std::string version;    // "0.3.21"
};
const OpenBlas& openblas();
/// True when the kernel set `core` of OpenBLAS works with vectors as wide as those named `simd` (see simd_name()).
/// Only AVX2 and AVX-512 can be missed: below them, and outside x86, every set that runs is as wide as the CPU.
bool openblas_fits(std::string_view core, std::string_view simd);

/// The backend that gemm() uses for a product of so many multiply-adds: OpenBLAS when it is linked, knows the CPU and
/// the product is large, the own kernels otherwise; below 2^29 they are at least as fast.
GemmBackend gemm_backend(std::int64_t multiply_adds = std::numeric_limits<std::int64_t>::max());
/// One sentence for people that says which backend is used for large products and why.
std::string gemm_backend_reason();

/// While alive, gemm() in every thread uses the given backend: for tests and benchmarks that compare the two.
/// Throws Error when that backend is not part of this build.
class GemmBackendGuard {
 public:
  explicit GemmBackendGuard(GemmBackend backend);
  ~GemmBackendGuard();
  GemmBackendGuard(const GemmBackendGuard&) = delete;
  GemmBackendGuard& operator=(const GemmBackendGuard&) = delete;

 private:
  int saved_;
};

}  // namespace sq::cpu
