// tests/support/device_option.h: --device=NAME of a test binary.
#pragma once

#include "tensor/cuda/context.h"

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace sq::test {

/// Makes the device that the last --device=NAME names the default one for as long as the object lives. Ends the program
/// with 77, "skipped", where it asks for a GPU and the machine has none.
class DeviceOption {
 public:
  DeviceOption(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (!argument.starts_with("--device=")) continue;
      if (argument != "--device=cpu" && cuda::device_count() == 0) {
        std::fprintf(stderr, "no GPU: %s\n", cuda::why_no_device().c_str());
        std::exit(77);
      }
      use_.reset();
      use_.emplace(parse_device(argument.substr(9)));
    }
  }

 private:
  std::optional<UseDevice> use_;
};

}  // namespace sq::test
