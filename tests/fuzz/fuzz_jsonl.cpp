// libFuzzer target for JSONL training data (build with CXX=clang++ and -Dfuzz=true).
#include "tests/fuzz/jsonl_input.h"

#include <cstddef>
#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sq::fuzz::jsonl_input({reinterpret_cast<const char*>(data), size});
  return 0;
}
