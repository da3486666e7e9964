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

namespace {

/// The configuration that the file's GPT-2 would have.
Gpt2Config gpt2_of(const BsbrFile& file) {
  Json document{{"model_type", "gpt2"}, {"activation_function", "gelu_new"}};
  document["vocab_size"] = file.at("gpt2.wte.weight").size(0);
  document["n_embd"] = file.at("gpt2.wte.weight").size(1);
  document["n_positions"] = file.at("gpt2.wpe.weight").size(0);
  document["n_inner"] = file.at("gpt2.h.0.mlp.c_fc.bias").size(0);
  document["n_head"] = static_cast<std::int64_t>(file.number("H"));
  document["n_layer"] = static_cast<std::int64_t>(file.number("L"));
  return read_gpt2_config(document, "golden");
}

/// hidden states, and logits where the file has them.
void compare_outputs(Comparison& comparison, const BsbrFile& file, LanguageModel& model, const std::string& tag,
                     DType dtype) {
  model.eval();
  const Tensor hidden = model.hidden(file.at("input_ids"));
  compare(comparison, Quantity::value, tag + ".hidden", hidden, file.at(tag + ".hidden"), dtype);
  if (file.contains(tag + ".logits"))
    compare(comparison, Quantity::value, tag + ".logits", model.project(hidden), file.at(tag + ".logits"), dtype);
}

/// The library's own conversion: no learned positions, exact GELU, the anti-causal mixer, logits by the embedding.
std::unique_ptr<LanguageModel> original_conversion(const BsbrFile& file, const Gpt2Config& gpt2, DType dtype) {
  BsbrLibraryModel library;
  library.family = BsbrFamily::bsbr;
  library.vocab_size = gpt2.vocab_size;
  library.hidden_dim = gpt2.hidden_size;
  library.num_layers = gpt2.num_layers;
  library.num_heads = gpt2.num_heads;
  library.ff_dim = gpt2.inner_size;
  library.chunk_size = static_cast<std::int64_t>(file.number("chunk"));
  ModelConfig config = to_model_config(library, BsbrReading::original);
  config.tie_embeddings = true;
  return build(config, from_bsbr_names(file.below("bsbr."), "golden"), dtype);
}

/// What our conversion makes of GPT-2's weights is what the library made of them.
void compare_weights(Comparison& comparison, const BsbrFile& file, const NamedTensors& ours) {
  for (const auto& want : from_bsbr_names(file.below("bsbr."), "golden")) {
    const auto found =
        std::find_if(ours.begin(), ours.end(), [&](const auto& entry) { return entry.first == want.first; });
    if (found == ours.end())
      comparison.fail(fmt::format("{} was not converted", want.first));
    else
      compare(comparison, Quantity::value, want.first, found->second, want.second, DType::f64);
  }
}

}  // namespace

Result check_gpt2_conversion(const std::filesystem::path& path) {
  const BsbrFile file(path);
  NamedTensors weights = file.below("gpt2.");
  std::erase_if(weights, [](const auto& entry) { return entry.first == "hidden" || entry.first == "logits"; });
  const Gpt2Config gpt2 = gpt2_of(file);
  const auto chunk = static_cast<std::int64_t>(file.number("chunk"));
  const NoGrad unrecorded;
  Comparison comparison;
  const auto check = [&](const std::string& tag, const Gpt2Target& target, DType dtype) {
    const NamedTensors converted = convert_gpt2_tensors(gpt2, target, weights, "golden");
    if (tag == "corrected" && dtype == DType::f64) compare_weights(comparison, file, converted);
    compare_outputs(comparison, file, *build(to_model_config(gpt2, target), converted, dtype), tag, dtype);
  };
  for (const DType dtype : kTypes) {
    using Mixer = Gpt2Target::Mixer;
    check("gpt2", {.mixer = Mixer::dense}, dtype);
    // Text that fits a chunk has nothing to retrieve.
    check("gpt2", {.mixer = Mixer::bsbr, .chunk_size = gpt2.max_positions, .retrieval_gate = 1}, dtype);
    check("corrected", {.mixer = Mixer::bsbr, .chunk_size = chunk, .state_norm = "none", .retrieval_gate = 1}, dtype);
    check("corrected_scaled", {.mixer = Mixer::bsbr, .chunk_size = chunk, .state_norm = "mean", .retrieval_gate = 1},
          dtype);
    check("corrected_local_only", {.mixer = Mixer::bsbr, .chunk_size = chunk, .retrieval_gate = 0}, dtype);
    compare_outputs(comparison, file, *original_conversion(file, gpt2, dtype), "original", dtype);
  }
  return comparison.result();
}

}  // namespace golden
