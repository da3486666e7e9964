// models/presets.h: ready configurations, built into the library from models/presets/*.json.
#pragma once

#include "nn/json.h"

#include <span>
#include <string_view>
#include <vector>

namespace sq {

/// A file models/presets/NAME.json: {"about": sentence, "model": {…}, "training": {…}}; "model" holds the keys of
/// ModelConfig, "training" those of TrainingConfig.
struct Preset {
  std::string_view name;
  std::string_view text;
};

std::span<const Preset> presets();

std::vector<std::string_view> preset_names();

/// The file's content. Throws UsageError that lists the known presets.
Json preset_document(std::string_view name);

}  // namespace sq
