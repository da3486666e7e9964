#include "train/training_config.h"

#include "models/presets.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

template <class Config>
std::vector<std::string_view> names_of_fields() {
  return std::apply([](const auto&... f) { return std::vector<std::string_view>{f.name...}; }, Config::fields());
}

RunConfig with_overrides(Json document, std::string_view source, std::span<const std::string> overrides) {
  for (const std::string& assignment : overrides) apply_run_override(document, assignment);
  try {
    return config_from_json<RunConfig>(document);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: {}", source, error.what()));
  }
}

}  // namespace

void TrainingConfig::validate(std::string_view path) const {
  require_input(min_learning_rate <= learning_rate, "config", "{} is {} but must be at most learning_rate, which is {}",
                join_path(path, "min_learning_rate"), min_learning_rate, learning_rate);
}

Schedule TrainingConfig::make_schedule() const {
  const std::int64_t end = decay_steps > 0 ? decay_steps : steps;
  const std::int64_t warmup = std::min(warmup_steps, end / 2);
  const auto cooldown = static_cast<std::int64_t>(std::llround(cooldown_fraction * static_cast<double>(end)));
  return {.shape = schedule,
          .learning_rate = learning_rate,
          .min_learning_rate = min_learning_rate,
          .warmup_steps = warmup,
          .decay_steps = end,
          .cooldown_steps = std::min(cooldown, end - warmup)};
}

void RunConfig::validate(std::string_view path) const {
  require_input(training.context <= model.max_tokens(), "config",
                "{} is {} but must be at most {}, the tokens that fit into {} (it counts learned globals)",
                join_path(path, "training.context"), training.context, model.max_tokens(),
                join_path(path, "model.max_seq_len"));
}

void apply_run_override(Json& document, std::string_view assignment) {
  const std::string_view key = assignment.substr(0, assignment.find_first_of(".="));
  const auto has = [&](const std::vector<std::string_view>& names) {
    return std::find(names.begin(), names.end(), key) != names.end();
  };
  const auto model = names_of_fields<ModelConfig>(), training = names_of_fields<TrainingConfig>();
  std::vector<std::string_view> known = names_of_fields<RunConfig>();
  if (has(known)) return apply_override(document, assignment);
  if (has(model)) return apply_override(document, fmt::format("model.{}", assignment));
  if (has(training)) return apply_override(document, fmt::format("training.{}", assignment));
  known.insert(known.end(), model.begin(), model.end());
  known.insert(known.end(), training.begin(), training.end());
  throw UsageError(fmt::format("override: '{}': unknown key '{}'{} (known: {})", assignment, key,
                               suggestion(key, known), fmt::join(known, ", ")));
}

RunConfig preset_config(std::string_view name, std::span<const std::string> overrides) {
  return with_overrides(preset_document(name), fmt::format("preset {}", name), overrides);
}

RunConfig load_run_config(const std::string& path, std::span<const std::string> overrides) {
  return with_overrides(read_json_file(path), path, overrides);
}

}  // namespace sq
