#include "tests/golden/bsbr/golden_models.h"

#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "models/checkpoints/bsbr.h"
#include "models/checkpoints/gpt2.h"
#include "models/language_model.h"
#include "nn/sinusoidal.h"
#include "ops/view.h"
#include "tests/golden/bsbr/bsbr_file.h"

#include <algorithm>

namespace golden {

using namespace sq;

namespace {

BsbrFamily family_of(const std::string& name) {
  constexpr auto names = choices(BsbrFamily{});
  const auto found = std::find(names.begin(), names.end(), name == "bsbr_compressed" ? "bsbr" : name);
  require_input(found != names.end(), "golden", "the model '{}' is unknown", name);
  return static_cast<BsbrFamily>(found - names.begin());
}

BsbrLibraryModel read_model(const BsbrFile& file) {
  const auto whole = [&](const char* key) { return static_cast<std::int64_t>(file.number(key)); };
  BsbrLibraryModel model;
  model.family = family_of(file.text("name"));
  model.vocab_size = whole("vocab");
  model.hidden_dim = file.at("w.embedding.weight").size(1);
  model.num_layers = whole("layers");
  model.num_heads = whole("H");
  model.ff_dim = whole("ff");
  model.dropout = 0;
  model.chunk_size = whole("chunk");
  model.compression_factor = file.text("name") == "bsbr_compressed" ? whole("cf") : 0;
  model.window_size = whole("window");
  model.beta = file.number("beta");
  model.temperature = file.number("temperature");
  model.expansion_factor = whole("expansion");
  return model;
}

std::unique_ptr<LanguageModel> build(const ModelConfig& config, const NamedTensors& weights, DType dtype) {
  Generator unused(0);
  auto model = std::make_unique<LanguageModel>(config, TensorOptions{.dtype = dtype}, unused);
  model->load_state_dict(weights, "golden");
  return model;
}

/// The id that follows each, and nothing after the last.
Tensor next_ids(const Tensor& ids, std::int64_t ignore_index) {
  std::vector<std::int64_t> values = ids.to_vector<std::int64_t>();
  const auto width = static_cast<std::size_t>(ids.size(1));
  std::rotate(values.begin(), values.begin() + 1, values.end());
  for (std::size_t last = width - 1; last < values.size(); last += width) values[last] = ignore_index;
  return Tensor::from(values, ids.shape());
}

void check_reading(Comparison& comparison, const BsbrFile& file, BsbrReading reading, DType dtype) {
  const std::string tag = reading == BsbrReading::original ? "original." : "corrected.";
  const auto model =
      build(to_model_config(read_model(file), reading), from_bsbr_names(file.below("w."), "golden"), dtype);
  const Tensor ids = file.at("input_ids");
  {
    const NoGrad unrecorded;
    const Tensor hidden = model->hidden(ids);
    compare(comparison, Quantity::value, tag + "hidden", hidden, file.at(tag + "hidden"), dtype);
    compare(comparison, Quantity::value, tag + "logits", model->project(hidden), file.at(tag + "logits"), dtype);
  }
  const CrossEntropyOptions options;
  const Tensor loss = model->loss(ids, next_ids(ids, options.ignore_index), options);
  compare(comparison, Quantity::loss, tag + "loss", reshape(loss, {1}), file.at(tag + "loss"), dtype);
  backward(loss);
  for (const auto& [name, parameter] : model->named_parameters()) {
    const std::string theirs = tag + "grad." + to_bsbr_name(name);
    if (file.contains(theirs))
      compare(comparison, Quantity::gradient, theirs, grad(parameter), file.at(theirs), dtype);
    else
      comparison.fail(fmt::format("{}: the file has no such gradient", theirs));
  }
}

}  // namespace

Result check_model(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  for (const DType dtype : kTypes) {
    const Tensor pe = file.at("pe");
    SinusoidalPositions positions(pe.size(1), 10000, pe.size(0), {.dtype = dtype});
    compare(comparison, Quantity::value, "pe", positions.first(pe.size(0)), pe, dtype);
    for (const BsbrReading reading : {BsbrReading::corrected, BsbrReading::original})
      check_reading(comparison, file, reading, dtype);
  }
  return comparison.result();
}

Result check_gpt2_conversion(const std::filesystem::path& path) {
  const BsbrFile file(path);
  const NamedTensors weights = [&] {
    NamedTensors all = file.below("gpt2.");
    std::erase_if(all, [](const auto& entry) { return entry.first == "hidden" || entry.first == "logits"; });
    return all;
  }();
  Json document{{"model_type", "gpt2"}, {"activation_function", "gelu_new"}};
  document["vocab_size"] = file.at("gpt2.wte.weight").size(0);
  document["n_embd"] = file.at("gpt2.wte.weight").size(1);
  document["n_positions"] = file.at("gpt2.wpe.weight").size(0);
  document["n_inner"] = file.at("gpt2.h.0.mlp.c_fc.bias").size(0);
  document["n_head"] = static_cast<std::int64_t>(file.number("H"));
  document["n_layer"] = static_cast<std::int64_t>(file.number("L"));
  const Gpt2Config config = read_gpt2_config(document, "golden");
  const NoGrad unrecorded;
  Comparison comparison;
  const Tensor ids = file.at("input_ids");
  for (const DType dtype : kTypes) {
    const auto model = build(to_model_config(config), convert_gpt2_tensors(config, {}, weights, "golden"), dtype);
    model->eval();
    const Tensor hidden = model->hidden(ids);
    compare(comparison, Quantity::value, "gpt2.hidden", hidden, file.at("gpt2.hidden"), dtype);
    compare(comparison, Quantity::value, "gpt2.logits", model->project(hidden), file.at("gpt2.logits"), dtype);
  }
  return comparison.result();
}

}  // namespace golden
