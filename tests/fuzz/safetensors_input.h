// tests/fuzz/safetensors_input.h: what must hold for any bytes taken as a safetensors file.
#pragma once

#include "tensor/error.h"
#include "tensor/safetensors.h"
#include "tensor/storage.h"

#include <cstring>
#include <stdexcept>
#include <string_view>

namespace sq::fuzz {

/// A file is either refused with a UsageError or all its tensors can be read, none of them larger than the file.
inline void safetensors_input(std::string_view bytes) {
  const std::shared_ptr<Storage> storage = Storage::allocate(bytes.size(), {});
  if (!bytes.empty()) std::memcpy(storage->data(), bytes.data(), bytes.size());
  try {
    const SafetensorsFile file(storage, "input");
    std::size_t total = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      if (!file.contains(name) || file.at(name).shape() != tensor.shape())
        throw std::logic_error("a tensor is not found by its name");
      (void)to_string(tensor);
      total += tensor.to_vector<double>().size();
    }
    if (total > bytes.size()) throw std::logic_error("more elements than the file has bytes");
  } catch (const UsageError&) {
  }
}

}  // namespace sq::fuzz
