#include "models/model_folder.h"

#include "tensor/file.h"
#include "tensor/safetensors.h"

#include <algorithm>

namespace sq {
namespace {

/// Whether any tensor's name ends with `suffix`.
bool has_suffix(const NamedTensors& tensors, std::string_view suffix) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const auto& entry) { return std::string_view(entry.first).ends_with(suffix); });
}

}  // namespace

std::uint64_t save_model(const std::filesystem::path& folder, const LanguageModel& model) {
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  require(!problem, "model", "cannot make the folder '{}': {}", folder.string(), problem.message());
  replace_file(folder / kConfigFile, model_document(model.config()).dump(2) + "\n");
  return save_safetensors(folder / kWeightsFile, model.state_dict(), {{"format", "subquad"}});
}

std::unique_ptr<LanguageModel> load_model(const std::filesystem::path& folder, TensorOptions options) {
  require_input(std::filesystem::is_directory(folder), "model", "'{}' is not a model folder", folder.string());
  ModelConfig config = load_model_config((folder / kConfigFile).string());
  const SafetensorsFile file(folder / kWeightsFile);
  // Files of the original from before its SwiGLU have no gate.
  if (config.feed_forward.type == FeedForwardKind::swiglu && !file.tensors().empty() &&
      !has_suffix(file.tensors(), "ffn.w3.weight") && has_suffix(file.tensors(), "ffn.w1.weight"))
    config.feed_forward.type = FeedForwardKind::gelu;
  Generator unused(0);  // every value is replaced
  const bool half = is_half(options.dtype);
  auto model =
      std::make_unique<LanguageModel>(config, TensorOptions{half ? DType::f32 : options.dtype, options.device}, unused);
  model->load_state_dict(file.tensors(), (folder / kWeightsFile).string());
  if (half) model->hold_matrices_in(options.dtype);
  model->eval();
  return model;
}

}  // namespace sq
