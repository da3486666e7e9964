#include "tensor/cpu/blas.h"

#include "tensor/cpu/features.h"
#include "tensor/error.h"

#include <hwy/targets.h>

#include <array>
#include <atomic>
#include <sstream>
#include <string_view>

#ifdef SUBQUAD_OPENBLAS
#include <cblas.h>
#endif

namespace sq::cpu {
namespace {

constexpr int kAutomatic = -1;
std::atomic<int> forced_backend{kAutomatic};

#ifdef SUBQUAD_OPENBLAS

template <std::size_t N>
bool one_of(std::string_view text, const std::array<std::string_view, N>& list) {
  for (std::string_view entry : list)
    if (text == entry) return true;
  return false;
}

/// True when the named kernel set of OpenBLAS works with vectors as wide as ours. Below AVX2 and outside x86 there is
/// nothing to misjudge: every set that runs is as wide as the CPU.
[[maybe_unused]] bool kernels_fit(std::string_view core) {
#if HWY_ARCH_X86
  constexpr std::array<std::string_view, 3> kAvx512 = {"SkylakeX", "Cooperlake", "Sapphirerapids"};
  constexpr std::array<std::string_view, 3> kAvx2 = {"Haswell", "Zen", "Excavator"};
  const std::int64_t targets = hwy::SupportedTargets();
  if (targets & HWY_AVX3) return one_of(core, kAvx512);
  if (targets & HWY_AVX2) return one_of(core, kAvx2);
#endif
  return true;
}

OpenBlas ask_openblas() {
  OpenBlas info;
  info.linked = true;
  info.core = openblas_get_corename();
  std::istringstream config(openblas_get_config());  // "OpenBLAS 0.3.21 DYNAMIC_ARCH …"
  config >> info.version >> info.version;
  info.fits_cpu = kernels_fit(info.core);
  return info;
}

#else

OpenBlas ask_openblas() { return {}; }

#endif

}  // namespace

const char* name(GemmBackend backend) { return backend == GemmBackend::own ? "own" : "openblas"; }

const OpenBlas& openblas() {
  static const OpenBlas info = ask_openblas();
  return info;
}

GemmBackend gemm_backend() {
  const int forced = forced_backend.load(std::memory_order_relaxed);
  if (forced != kAutomatic) return static_cast<GemmBackend>(forced);
  return openblas().fits_cpu ? GemmBackend::openblas : GemmBackend::own;
}

std::string gemm_backend_reason() {
  const OpenBlas& blas = openblas();
  if (forced_backend.load(std::memory_order_relaxed) != kAutomatic)
    return fmt::format("The {} GEMM is used because it was asked for.", name(gemm_backend()));
  if (!blas.linked) return "The own GEMM is used because this build has no OpenBLAS.";
  if (blas.fits_cpu)
    return fmt::format("OpenBLAS {} is used because its {} kernels fit a CPU with {}.", blas.version, blas.core,
                       simd_name());
  return fmt::format("The own GEMM is used because OpenBLAS {} took this CPU with {} for a {}.", blas.version,
                     simd_name(), blas.core);
}

GemmBackendGuard::GemmBackendGuard(GemmBackend backend) {
  require(backend == GemmBackend::own || openblas().linked, "gemm", "this build has no OpenBLAS (-Dblas=none)");
  saved_ = forced_backend.exchange(static_cast<int>(backend));
}

GemmBackendGuard::~GemmBackendGuard() { forced_backend.store(saved_); }

}  // namespace sq::cpu
