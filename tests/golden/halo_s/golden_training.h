// tests/golden/halo_s/golden_training.h: optimizer and trainer trajectories against the original's.
#pragma once

#include "tests/golden/harness.h"

namespace golden {

Result check_adamw(const std::filesystem::path& path);
Result check_trainer(const std::filesystem::path& path);

}  // namespace golden
