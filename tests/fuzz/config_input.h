// tests/fuzz/config_input.h: what must hold for any bytes taken as the JSON of a model, of a run, or of one override.
#pragma once

#include "models/estimate.h"
#include "models/language_model.h"
#include "models/presets.h"
#include "tensor/error.h"
#include "train/training_config.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <stdexcept>
#include <string_view>

namespace sq::fuzz {

/// What `read` returns, or nothing when it refuses its input as a user's mistake.
template <class Read>
auto accepted(Read read) -> std::optional<decltype(read())> {
  try {
    return read();
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

/// A configuration that was accepted survives being saved, has estimates that agree with each other, and, where it is
/// small, is one that a model can be built from.
inline void check_model(ModelConfig config) {
  const Json saved = model_document(config);
  if (model_document(read_model_document(saved)) != saved) throw std::logic_error("a model changed by being saved");
  if (config.vocab_size == 0) config.vocab_size = 7;
  const ModelEstimate estimate = estimate_model(config, config.max_tokens());
  for (const PartEstimate& part : estimate.parts)
    if (part.parameters < 0 || part.state_bytes < 0 || part.forward_flops < 0)
      throw std::logic_error("an estimate below 0");
  (void)summary_table(config, estimate);
  if (config.num_layers > 8 || estimate.total.parameters > 20'000 || config.max_seq_len > 10'000) return;
  LanguageModel model(config);
  if (model.parameter_count() != estimate.total.parameters) throw std::logic_error("a wrong number of parameters");
  const Tensor ids = Tensor::zeros({1, std::min<std::int64_t>(3, config.max_tokens())}, {.dtype = DType::i64});
  (void)model.forward(ids);
}

inline void config_input(std::string_view bytes) {
  const auto document = accepted([&] { return parse_json(bytes, "input"); });
  if (!document) return;
  if (const auto model = accepted([&] { return read_model_document(*document); })) check_model(*model);
  std::optional<RunConfig> run = accepted([&] { return config_from_json<RunConfig>(*document); });
  if (document->is_string())  // stands for --set on the command line
    run = accepted([&] {
      Json preset = preset_document("halo-s-tiny");
      apply_run_override(preset, document->get_ref<const std::string&>());
      return config_from_json<RunConfig>(preset);
    });
  if (!run) return;
  const Json saved = config_to_json(*run);
  if (config_to_json(config_from_json<RunConfig>(saved)) != saved)
    throw std::logic_error("a run changed by being saved");
  (void)run->training.make_schedule();
  check_model(run->model);
}

}  // namespace sq::fuzz
