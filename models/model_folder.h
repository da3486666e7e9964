// models/model_folder.h: a saved model is a folder: config.json, model.safetensors, tokenizer.json.
//
// The tokenizer is written and read by train/tokenizers/tokenizer.h; a model can do without.
#pragma once

#include "models/language_model.h"

#include <filesystem>
#include <memory>

namespace sq {

inline constexpr std::string_view kConfigFile = "config.json";
inline constexpr std::string_view kWeightsFile = "model.safetensors";
inline constexpr std::string_view kTokenizerFile = "tokenizer.json";

/// Writes config.json and model.safetensors, each replaced in one step; makes the folder if need be. Returns the
/// checksum of the weights file. Throws Error when the disk refuses.
std::uint64_t save_model(const std::filesystem::path& folder, const LanguageModel& model);

/// Builds the model that the folder describes, in evaluation mode, with weights converted to options.dtype; for bf16
/// and f16 only the large matrices are, and activations are f32 (Module::hold_matrices_in). Reads folders of save_model
/// and those of the original HALO-S (config.json with "model_type": "halo-s"; a configuration with SwiGLU whose weights
/// have no ffn.w3 loads as GELU). Throws UsageError naming what is missing, unexpected or misshapen.
std::unique_ptr<LanguageModel> load_model(const std::filesystem::path& folder, TensorOptions options = {});

}  // namespace sq
