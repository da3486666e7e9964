// tests/golden/halo_s/golden_layers.h: the parts of HALO-S and whole models against the original's numbers, in f64 and
// f32.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

Result check_rope(const std::filesystem::path& path);
Result check_sparse_attention(const std::filesystem::path& path);
Result check_global_attention(const std::filesystem::path& path);
Result check_block(const std::filesystem::path& path);
Result check_model(const std::filesystem::path& path);
Result check_baseline_model(const std::filesystem::path& path);
Result check_generate(const std::filesystem::path& path);
Result check_sampling(const std::filesystem::path& path);

}  // namespace golden
