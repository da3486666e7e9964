// libFuzzer target for safetensors files (build with CXX=clang++ and -Dfuzz=true).
#include "tests/fuzz/safetensors_input.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sq::fuzz::safetensors_input({reinterpret_cast<const char*>(data), size});
  return 0;
}
