// The main function of every test binary. --device=cuda makes every tensor on the GPU unless a test says otherwise;
// test suites named "cpu" (what has to do with the host alone) are then left out. Ends with 77, "skipped", where the
// build has CUDA and the machine no GPU.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tensor/cuda/context.h"
#include "tests/support/simd.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <optional>
#include <string_view>

/// Read by AddressSanitizer in builds that have it: an allocation that no memory has fails, as it does without.
extern "C" const char* __asan_default_options();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

int main(int argc, char** argv) {
  sq::test::limit_simd();
  doctest::Context context(argc, argv);
  std::optional<sq::UseDevice> device;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (!argument.starts_with("--device=")) continue;
    if (argument != "--device=cpu" && sq::cuda::device_count() == 0) {
      std::fprintf(stderr, "no GPU: %s\n", sq::cuda::why_no_device().c_str());
      return 77;
    }
    device.emplace(sq::parse_device(argument.substr(9)));
    if (!sq::default_device().is_cpu()) context.addFilter("test-suite-exclude", "cpu");
  }
  return context.run();
}
