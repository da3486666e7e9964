// tests/golden/halo_s/golden_estimators.h: the original's own estimates against golden ones.
#pragma once

#include "tests/support/golden.h"

namespace golden {

/// estimators.json: head size, neighbors, parameters, operations, memory, graph statistics, summary, shapes; one
/// "tensor" for each value compared.
Result check_estimators(const std::string& path);

}  // namespace golden
