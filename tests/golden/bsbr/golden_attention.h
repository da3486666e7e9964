// tests/golden/bsbr/golden_attention.h: mixers alone, without a layer around them.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

/// attn_MIXER for standard, sliding_window, hopfield, linear and deltanet: results, loss, gradients and states, with
/// and without a mask that has gaps, as the library computes them and corrected.
Result check_attention(const std::filesystem::path& path);

}  // namespace golden
