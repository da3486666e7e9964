// tensor/cpu/blas.h: which implementation multiplies matrices, and why.
#pragma once

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

/// The backend that gemm() uses: OpenBLAS when it is linked and knows the CPU, the own kernels otherwise.
GemmBackend gemm_backend();
/// One sentence for people that says which backend is used and why.
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
