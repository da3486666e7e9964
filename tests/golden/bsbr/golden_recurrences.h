// tests/golden/bsbr/golden_recurrences.h: sequence rules with a memory, and softmax with forgetting.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

/// rec_RULE: outputs, last state and all gradients of the rule that the file names.
Result check_recurrence(const std::filesystem::path& path);
/// chunk_gated_delta_steps: the chunked delta rule step by step, and the operation on the same inputs.
Result check_delta_chunks(const std::filesystem::path& path);

}  // namespace golden
