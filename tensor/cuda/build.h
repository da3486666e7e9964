// tensor/cuda/build.h: what this build of the library has.
#pragma once

namespace sq::cuda {

/// CUDA kernels are compiled in: with nvcc, or for the emulated GPU (Meson option `cuda`). This header is the only one
/// that asks for the two macros; they are part of the compile flags of whoever uses the library.
#ifdef SUBQUAD_CUDA
inline constexpr bool kBuilt = true;
#else
inline constexpr bool kBuilt = false;  // then only device_count and its neighbours exist (absent.cpp)
#endif

/// The GPU is one that the host plays (tensor/cuda/emulation): same results, for tests.
#ifdef SUBQUAD_CUDA_EMULATED
inline constexpr bool kEmulated = true;
#else
inline constexpr bool kEmulated = false;
#endif

}  // namespace sq::cuda
