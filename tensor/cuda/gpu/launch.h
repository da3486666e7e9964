// tensor/cuda/gpu/launch.h: starting a kernel of a real GPU. Kernel files call launch_kernel (tensor/cuda/launch.h).
#pragma once

#include "tensor/cuda/runtime.h"

namespace sq::cuda::gpu {

/// `kernel` is a __global__ function, `arguments` point to the values of its parameters.
void launch(std::string_view name, const void* kernel, const Grid& grid, Stream stream, void** arguments);

}  // namespace sq::cuda::gpu
