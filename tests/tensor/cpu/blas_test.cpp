#include "tensor/cpu/blas.h"

#include "tensor/cpu/features.h"
#include "tensor/cpu/measure.h"
#include "tensor/cpu/threads.h"
#include "tensor/error.h"

#include <doctest/doctest.h>

using namespace sq;
using namespace sq::cpu;

TEST_CASE("the backend follows from what OpenBLAS says of itself, and the reason names it") {
  const OpenBlas& blas = openblas();
  CHECK(gemm_backend() == (blas.fits_cpu ? GemmBackend::openblas : GemmBackend::own));
  CHECK(gemm_backend(768 * 128 * 512) == GemmBackend::own);
  const std::string reason = gemm_backend_reason();
  CHECK(reason.back() == '.');
  if (blas.linked) {
    CHECK_FALSE(blas.core.empty());
    CHECK_FALSE(blas.version.empty());
    CHECK(reason.find(blas.core) != std::string::npos);
    CHECK(reason.find(simd_name()) != std::string::npos);
  } else {
    CHECK_FALSE(blas.fits_cpu);
    CHECK(reason == "The own GEMM is used because this build has no OpenBLAS.");
  }
}

TEST_CASE("OpenBLAS kernels are judged by the vectors of the CPU") {
  CHECK(openblas_fits("SkylakeX", "AVX-512"));
  CHECK(openblas_fits("Sapphirerapids", "AVX-512"));
  CHECK_FALSE(openblas_fits("Haswell", "AVX-512"));
  CHECK_FALSE(openblas_fits("Prescott", "AVX-512"));
  CHECK(openblas_fits("Haswell", "AVX2"));
  CHECK(openblas_fits("Zen", "AVX2"));
  CHECK_FALSE(openblas_fits("Prescott", "AVX2"));
  CHECK_FALSE(openblas_fits("Nehalem", "AVX2"));
  CHECK(openblas_fits("Nehalem", "SSE4"));
  CHECK(openblas_fits("ARMV8", "NEON"));
}

TEST_CASE("a guard forces a backend and gives it back") {
  const GemmBackend before = gemm_backend();
  {
    const GemmBackendGuard guard(GemmBackend::own);
    CHECK(gemm_backend() == GemmBackend::own);
    CHECK(gemm_backend_reason() == "The own GEMM is used because it was asked for.");
    if (openblas().linked) {
      const GemmBackendGuard inner(GemmBackend::openblas);
      CHECK(gemm_backend() == GemmBackend::openblas);
      CHECK(gemm_backend(1) == GemmBackend::openblas);
    } else {
      CHECK_THROWS_WITH_AS(GemmBackendGuard{GemmBackend::openblas}, "gemm: this build has no OpenBLAS (-Dblas=none)",
                           Error);
    }
    CHECK(gemm_backend() == GemmBackend::own);
  }
  CHECK(gemm_backend() == before);
}

TEST_CASE("what is known of the CPU is plausible") {
  const CpuFeatures& cpu = cpu_features();
  CHECK_FALSE(cpu.name.empty());
  CHECK(cpu.logical_cores >= cpu.physical_cores);
  CHECK(cpu.physical_cores >= 1);
  CHECK(cpu.l1_bytes >= 0);
  CHECK(simd_bits() >= 128);
  CHECK_FALSE(simd_name().empty());
}

TEST_CASE("measurements are positive and refuse nonsense") {
  CHECK(measure_gemm_gflops(64, 64, 64, 2) > 0);
  CHECK_THROWS_WITH_AS(measure_gemm_gflops(64, 0, 64, 2), "measure_gemm: m 64, n 0, k 64 and runs 2 must be at least 1",
                       Error);
  CHECK_THROWS_WITH_AS(measure_copy_bandwidth(0), "measure_copy: runs 0 must be at least 1", Error);
}
