// The main function of every test binary.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/simd.h"

#include <doctest/doctest.h>

int main(int argc, char** argv) {
  sq::test::limit_simd();
  return doctest::Context(argc, argv).run();
}
