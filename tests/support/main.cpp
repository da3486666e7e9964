// The main function of every test binary.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/simd.h"

#include <doctest/doctest.h>

/// Read by AddressSanitizer in builds that have it: an allocation that no memory has fails, as it does without.
extern "C" const char* __asan_default_options();  // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

int main(int argc, char** argv) {
  sq::test::limit_simd();
  return doctest::Context(argc, argv).run();
}
