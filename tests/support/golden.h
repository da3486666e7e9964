// tests/support/golden.h: the outcome of comparing one file of golden numbers.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace golden {

struct Result {
  std::size_t tensors = 0;
  double worst_error = 0;
  std::vector<std::string> failures;
};

}  // namespace golden
