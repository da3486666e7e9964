// tests/golden/halo_s/golden_tokenizers.h: the char and word tokenizers against cases of the original.
#pragma once

#include "tests/support/golden.h"

#include <filesystem>

namespace golden {

/// Reads a file of the form of tokenizers.json, with any alphabets, texts and vocabularies, and checks every case.
Result check_tokenizers(const std::filesystem::path& file);

}  // namespace golden
