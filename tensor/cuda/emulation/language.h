// tensor/cuda/emulation/language.h: the words of the CUDA language, for the ordinary C++ compiler.
#pragma once

// These are the language's own names, so that a .cu file is the same text for nvcc; they can only be macros.
// NOLINTBEGIN(bugprone-reserved-identifier)
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// NOLINTEND(bugprone-reserved-identifier)
