#include "tensor/cpu/blas.h"

#include "tensor/cpu/features.h"
#include "tensor/error.h"

#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <sstream>

#ifdef SUBQUAD_OPENBLAS
#include <cblas.h>
#endif

namespace sq::cpu {
namespace {

constexpr std::int64_t kLargeProduct = std::int64_t{1} << 29;

constexpr int kAutomatic = -1;
std::atomic<int> forced_backend{kAutomatic};

#ifdef SUBQUAD_OPENBLAS

OpenBlas ask_openblas() {
  OpenBlas info;
  info.linked = true;
  info.core = openblas_get_corename();
  std::istringstream config(openblas_get_config());  // "OpenBLAS 0.3.21 DYNAMIC_ARCH …"
  config >> info.version >> info.version;
  info.fits_cpu = openblas_fits(info.core, simd_name());
  return info;
}

#else

OpenBlas ask_openblas() { return {}; }

#endif

}  // namespace

const char* name(GemmBackend backend) { return backend == GemmBackend::own ? "own" : "openblas"; }

bool openblas_fits(std::string_view core, std::string_view simd) {
  const auto one_of = [core](std::initializer_list<std::string_view> list) {
    return std::find(list.begin(), list.end(), core) != list.end();
  };
  if (simd == "AVX-512") return one_of({"SkylakeX", "Cooperlake", "Sapphirerapids"});
  if (simd == "AVX2") return one_of({"Haswell", "Zen", "Excavator"});
  return true;
}

const OpenBlas& openblas() {
  static const OpenBlas info = ask_openblas();
  return info;
}

GemmBackend gemm_backend(std::int64_t multiply_adds) {
  const int forced = forced_backend.load(std::memory_order_relaxed);
  if (forced != kAutomatic) return static_cast<GemmBackend>(forced);
  return openblas().fits_cpu && multiply_adds >= kLargeProduct ? GemmBackend::openblas : GemmBackend::own;
}

std::string gemm_backend_reason() {
  const OpenBlas& blas = openblas();
  if (forced_backend.load(std::memory_order_relaxed) != kAutomatic)
    return fmt::format("The {} GEMM is used because it was asked for.", name(gemm_backend()));
  if (!blas.linked) return "The own GEMM is used because this build has no OpenBLAS.";
  if (blas.fits_cpu)
    return fmt::format("OpenBLAS {} multiplies large matrices because its {} kernels fit a CPU with {}.", blas.version,
                       blas.core, simd_name());
  return fmt::format("The own GEMM is used because OpenBLAS {} took this CPU with {} for a {}.", blas.version,
                     simd_name(), blas.core);
}

GemmBackendGuard::GemmBackendGuard(GemmBackend backend) {
  require(backend == GemmBackend::own || openblas().linked, "gemm", "this build has no OpenBLAS (-Dblas=none)");
  saved_ = forced_backend.exchange(static_cast<int>(backend));
}

GemmBackendGuard::~GemmBackendGuard() { forced_backend.store(saved_); }

}  // namespace sq::cpu
