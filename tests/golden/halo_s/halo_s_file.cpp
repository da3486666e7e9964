#include "tests/golden/halo_s/halo_s_file.h"

#include "autograd/node.h"

#include <algorithm>

namespace golden {

using namespace sq;

HaloSFile::HaloSFile(const std::filesystem::path& path)
    : file_(path), settings_(metadata(file_, "settings")), tolerance_(metadata(file_, "tolerance")) {}

OriginalHaloS HaloSFile::original() const { return read_original_halo_s(metadata(file_, "config")); }

ModelConfig HaloSFile::model_config() const {
  const bool once = settings_.value("duplicates", "counted") == "once";
  return to_model_config(original(), once ? HaloDuplicates::once : HaloDuplicates::counted);
}

HaloSConfig HaloSFile::halo_s_config() const {
  return config_from_json<HaloSConfig>(model_config().mixer_of(0).options, "mixer");
}

NamedTensors HaloSFile::weights() const {
  static constexpr std::array<std::string_view, 9> kPrefixes{"input.",  "output.", "upstream.", "grad", "final.",
                                                             "exp_avg", "crop.",   "neighbors", "case"};
  NamedTensors result;
  for (const auto& entry : file_.tensors())
    if (std::none_of(kPrefixes.begin(), kPrefixes.end(),
                     [&](std::string_view prefix) { return entry.first.starts_with(prefix); }))
      result.push_back(entry);
  return result;
}

std::unique_ptr<LanguageModel> make_model(const HaloSFile& file, const ModelConfig& config, DType dtype) {
  Generator generator(1);
  auto model = std::make_unique<LanguageModel>(config, TensorOptions{.dtype = dtype}, generator);
  model->load_state_dict(file.weights(), "golden");
  model->eval();
  return model;
}

void compare_gradients(Comparison& comparison, const HaloSFile& file, const Module& module, const std::string& prefix,
                       double tolerance) {
  for (const auto& [name, parameter] : module.named_parameters()) {
    const Tensor gradient = grad(parameter);
    comparison.close(prefix + "." + name, gradient.defined() ? gradient : Tensor::zeros_like(parameter),
                     file.at(prefix + "." + name), tolerance);
  }
}

}  // namespace golden
