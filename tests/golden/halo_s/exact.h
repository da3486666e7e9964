// tests/golden/halo_s/exact.h: comparing what must be equal: ids, texts, files.
#pragma once

#include "tests/support/golden.h"

#include <limits>
#include <string>
#include <utility>

namespace golden {

/// Counts one comparison; `what` says what differs.
inline void expect_equal(Result& result, bool equal, std::string what) {
  ++result.tensors;
  if (equal) return;
  result.worst_error = std::numeric_limits<double>::infinity();
  result.failures.push_back(std::move(what));
}

}  // namespace golden
