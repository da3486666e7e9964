// libFuzzer target for the JSON of models and runs (build with CXX=clang++ and -Dfuzz=true).
#include "tests/fuzz/config_input.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sq::fuzz::config_input({reinterpret_cast<const char*>(data), size});
  return 0;
}
