// tensor/cuda/kernel.h: all that a kernel file (.cu) includes besides its operation's header. docs/8-cuda.md shows how
// one is written.
//
// The same file is compiled by nvcc for GPUs and, with -Dcuda=emulate, by the ordinary C++ compiler for the host. So a
// kernel file uses the names below, not CUDA's own: no <<<>>>, threadIdx, __shared__, __syncthreads, __shfl_sync, no
// intrinsics.
#pragma once

#include "tensor/cuda/launch.h"
#include "tensor/cuda/mma.h"
#include "tensor/cuda/numbers.h"
#include "tensor/cuda/philox.h"
#include "tensor/cuda/reduce.h"
#include "tensor/cuda/threads.h"
#include "tensor/cuda/walk.h"
