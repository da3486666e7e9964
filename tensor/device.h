// tensor/device.h: where a tensor's bytes live.
#pragma once

#include "tensor/error.h"

#include <string>
#include <string_view>

namespace sq::cuda {
class Context;  // what a GPU's kernels get: its stream and memory (tensor/cuda/context.h)
}

namespace sq {

/// The host processor, or one NVIDIA GPU by its index.
struct Device {
  enum class Kind { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  bool is_cpu() const { return kind == Kind::cpu; }
  bool is_cuda() const { return kind == Kind::cuda; }
  bool operator==(const Device&) const = default;
};

/// GPU number `index`.
constexpr Device cuda_device(int index = 0) { return {Device::Kind::cuda, index}; }

/// Where this thread makes tensors unless told otherwise: the CPU, or what the youngest UseDevice says.
Device default_device();

/// Another default device for a scope.
class UseDevice {
 public:
  explicit UseDevice(Device device);
  ~UseDevice();
  UseDevice(const UseDevice&) = delete;
  UseDevice& operator=(const UseDevice&) = delete;

 private:
  Device before_;
};

/// "cpu" or "cuda:N".
std::string name(Device device);
/// Reads "cpu", "cuda" (= "cuda:0") or "cuda:N". Throws UsageError on anything else, and on a GPU that is not there:
/// the library was built without CUDA, no driver or one too old, no such number.
Device parse_device(std::string_view text);

}  // namespace sq
