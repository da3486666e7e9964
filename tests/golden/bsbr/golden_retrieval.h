// tests/golden/bsbr/golden_retrieval.h: golden numbers of the mixers that work in chunks.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

/// attn_bsbr and attn_bsbr_compressed: corrected in four forms and original, with gradients and what lies between.
Result check_bsbr_attention(const std::filesystem::path& path);
/// attn_gau.
Result check_gau_attention(const std::filesystem::path& path);

}  // namespace golden
