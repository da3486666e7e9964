// tests/golden/bsbr/golden_models.h: whole models and the conversion of GPT-2.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

/// model_FAMILY: hidden states, logits, loss and all gradients, as the library computes them and corrected.
Result check_model(const std::filesystem::path& path);

/// gpt2_conversion: GPT-2 itself, and what it becomes with block-sparse attention.
Result check_gpt2_conversion(const std::filesystem::path& path);

}  // namespace golden
