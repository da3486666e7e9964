// tests/golden/halo_s/golden_datasets.h: JSONL, streaming and text data sets against items of the original.
#pragma once

#include "tests/support/golden.h"

#include <filesystem>

namespace golden {

/// Reads a file of the form of datasets.json, with any contents and sizes, and checks every data set in it. The names
/// `text`, `jsonl` and `streaming…` (each with any ending) say what a data set is.
Result check_datasets(const std::filesystem::path& file);

}  // namespace golden
