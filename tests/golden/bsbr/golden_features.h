// tests/golden/bsbr/golden_features.h: feature maps and gates.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

/// feature_maps: values and gradients of every map, and the log decays of every gate.
Result check_feature_maps(const std::filesystem::path& path);

}  // namespace golden
