// tensor/cuda/absent.cpp: the GPU of a build without CUDA: there is none.
#include "tensor/cuda/context.h"

namespace sq::cuda {

int device_count() { return 0; }
std::string why_no_device() { return "this build has no CUDA; use cpu"; }
std::string driver_version() { return "none"; }

void require_available(Device device) {
  throw UsageError(fmt::format("device: '{}' is not available: {}", name(device), why_no_device()));
}

}  // namespace sq::cuda
