// tensor/device.h: where a tensor's bytes live.
#pragma once

#include "tensor/error.h"

#include <string>
#include <string_view>

namespace sq {

/// The host processor, or one NVIDIA GPU by its index.
struct Device {
  enum class Kind { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  bool is_cpu() const { return kind == Kind::cpu; }
  bool operator==(const Device&) const = default;
};

/// "cpu" or "cuda:N".
std::string name(Device device);
/// Reads "cpu", "cuda" (= "cuda:0") or "cuda:N". Throws UsageError on anything else, and on CUDA when the library was
/// built without it.
Device parse_device(std::string_view text);

}  // namespace sq
