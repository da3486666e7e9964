// The main function of every test binary. --device=cuda makes every tensor on the GPU unless a test says otherwise;
// test suites named "cpu" (what has to do with the host alone) are then left out. Ends with 77, "skipped", where the
// build has CUDA and the machine no GPU.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/device_option.h"
#include "tests/support/simd.h"

#include <doctest/doctest.h>

/// Read by AddressSanitizer in builds that have it: an allocation that no memory has fails, as it does without.
extern "C" const char* __asan_default_options();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

int main(int argc, char** argv) {
  sq::test::limit_simd();
  doctest::Context context(argc, argv);
  const sq::test::DeviceOption device(argc, argv);
  if (!sq::default_device().is_cpu()) context.addFilter("test-suite-exclude", "cpu");
  return context.run();
}
