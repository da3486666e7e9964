#include "tools/compare/settings.h"

#include "models/estimate.h"
#include "nn/mixers/registry.h"
#include "tensor/cpu/features.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace sq::compare {
namespace {

constexpr std::string_view kShell = "model";

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

bool has_option(const MixerEntry& entry, std::string_view key) {
  const std::vector<FieldHelp> help = entry.help();
  return std::any_of(help.begin(), help.end(), [&](const FieldHelp& row) { return row.key == key; });
}

/// The part before the first dot of "dense.num_heads=4".
std::string owner_of(const std::string& change) { return change.substr(0, change.find_first_of(".=")); }

/// A mixer's configuration: the common number of heads, then the user's changes.
Json mixer_document(const Settings& settings, const std::string& name) {
  const MixerEntry& entry = find_mixer(name, "--mixers");
  Json document{{"type", name}};
  for (const char* key : {"num_heads", "num_kv_heads"})
    if (has_option(entry, key)) document[key] = settings.heads;
  for (const std::string& change : settings.changes)
    if (owner_of(change) == name) apply_override(document, change.substr(std::min(name.size() + 1, change.size())));
  return document;
}

Json shell_document(const Settings& settings) {
  Json document{{"hidden_size", settings.hidden_size}, {"num_layers", settings.layers}};
  for (const std::string& change : settings.changes)
    if (owner_of(change) == kShell) apply_override(document, change.substr(std::min(kShell.size() + 1, change.size())));
  return document;
}

/// Every change must change something.
void check_changes(const Settings& settings) {
  std::set<std::string> known{std::string(kShell)};
  for (const std::string& label : settings.mixers)
    for (const std::string& name : parts_of(label, '+')) known.insert(name);
  for (const std::string& change : settings.changes) {
    const std::string owner = owner_of(change);
    require_input(known.count(owner) > 0 && change.size() > owner.size() && change[owner.size()] == '.', "--set",
                  "'{}' must have the form MIXER.key=value with a mixer that is compared, or model.key=value", change);
  }
}

Json document_of(const Settings& settings, const Contender& contender, std::int64_t rows, std::int64_t vocab_size) {
  Json document = shell_document(settings);
  document["vocab_size"] = vocab_size;
  document["max_seq_len"] = rows;
  document["mixer"] = contender.mixer;
  if (contender.feed_forward_width > 0) {
    if (document.contains("feed_forward") && document["feed_forward"].is_string())
      document["feed_forward"] = Json{{"type", document["feed_forward"]}};
    document["feed_forward"]["width"] = contender.feed_forward_width;
  }
  return document;
}

/// The width of the feed-forward with which the model has `target` parameters, or as near as it gets. Their number is
/// a + b·width; a multiple of 8 is taken where that stays within 2 %.
std::int64_t fitting_width(const Settings& settings, Contender contender, std::int64_t target) {
  const auto count = [&](std::int64_t width) {
    contender.feed_forward_width = width;
    return count_parameters(model_config(settings, contender, settings.lengths.front(), settings.vocab_size));
  };
  const std::int64_t first = count(1), each = count(2) - first;
  const auto exact = static_cast<double>(target - first) / static_cast<double>(each) + 1;
  const auto round = static_cast<std::int64_t>(8 * std::llround(exact / 8));
  const std::int64_t missed = std::abs(first + each * (round - 1) - target);
  if (round >= 8 && static_cast<double>(missed) <= 0.02 * static_cast<double>(target)) return round;
  return std::max<std::int64_t>(1, std::llround(exact));
}

/// The shell's parameters with its own feed-forward, and 4·C² in each layer for the mixer: queries, keys, values and
/// the output projection.
std::int64_t target_parameters(const Settings& settings, const Contender& any) {
  Contender plain = any;
  plain.feed_forward_width = 0;
  const ModelConfig config = model_config(settings, plain, settings.lengths.front(), settings.vocab_size);
  std::int64_t count = count_parameters(config);
  count -= config.global_rows().count * config.hidden_size;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const MixerConfig& mixer = config.mixer_of(layer);
    count += 4 * config.hidden_size * config.hidden_size;
    count -= count_elements(find_mixer(mixer.type).parameters(mixer.options, config.context(layer)));
  }
  return count;
}

}  // namespace

void Settings::complete() {
  if (mixers.empty())
    for (const MixerEntry* entry : mixer_registry()) mixers.emplace_back(entry->name);
  require_input(!lengths.empty(), "--n", "no lengths; give some, such as --n 64,256,1024");
  for (const std::int64_t n : lengths)
    require_input(n >= 1 && n <= std::int64_t{1} << 24, "--n", "a length of {} is not possible; use 1 or more", n);
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
  const auto at_least = [](std::string_view flag, std::int64_t value, std::int64_t least) {
    require_input(value >= least, flag, "{} is not possible; use {} or more", value, least);
  };
  for (const auto& [flag, value] : {std::pair{"--hidden-size", hidden_size},
                                    {"--layers", layers},
                                    {"--heads", heads},
                                    {"--batch-size", batch_size},
                                    {"--vocab-size", vocab_size},
                                    {"--runs", runs},
                                    {"--decode-tokens", decode_tokens},
                                    {"--train-batch-size", train_batch_size},
                                    {"--task-batch-size", task_batch_size},
                                    {"--context", context}})
    at_least(flag, value, 1);
  at_least("--train", train_steps, 0);
  at_least("--task-steps", task_steps, 0);
  require_input(std::isfinite(seconds) && seconds >= 0, "--seconds", "{} is not possible; use 0 or more", seconds);
  require_input(std::isfinite(learning_rate) && learning_rate > 0, "--lr", "{} is not possible; use a number above 0",
                learning_rate);
  require_input(data.empty() || train_steps > 0, "--data", "it is for training; give --train STEPS too");
  if (task_steps == 0) task_steps = train_steps;
  require_input(tasks.empty() || task_steps > 0, "--task", "for how long? give --train STEPS or --task-steps N");
  if (tasks.empty() && task_steps > 0) tasks = {"needle", "mqar:vocab_size=64,pairs=4"};
  for (const std::string& task : tasks) parse_task(task);
  check_changes(*this);
}

Json Settings::to_json() const {
  return {{"hidden_size", hidden_size},
          {"layers", layers},
          {"heads", heads},
          {"batch_size", batch_size},
          {"vocab_size", vocab_size},
          {"set", changes},
          {"runs", runs},
          {"seconds", seconds},
          {"decode_tokens", decode_tokens},
          {"train_steps", train_steps},
          {"train_batch_size", train_batch_size},
          {"context", context},
          {"data", data},
          {"task_steps", task_steps},
          {"task_batch_size", task_batch_size},
          {"learning_rate", learning_rate},
          {"seed", common.seed},
          {"dtype", common.dtype},
          {"device", common.device},
          {"threads", cpu::thread_count()},
          {"cpu", cpu::cpu_features().name},
          {"simd", fmt::format("{}, {} bits", cpu::simd_name(), cpu::simd_bits())}};
}

std::vector<Contender> make_contenders(const Settings& settings) {
  std::vector<Contender> contenders;
  for (const std::string& label : settings.mixers) {
    Contender contender{.label = label, .mixer = Json::array()};
    const std::vector<std::string> names = parts_of(label, '+');
    for (const std::string& name : names) find_mixer(name, "--mixers");
    for (std::int64_t layer = 0; layer < settings.layers; ++layer)
      contender.mixer.push_back(mixer_document(settings, names[static_cast<std::size_t>(layer) % names.size()]));
    if (names.size() == 1) contender.mixer = contender.mixer.front();
    try {
      contender.target = target_parameters(settings, contender);
      contender.feed_forward_width = fitting_width(settings, contender, contender.target);
      contender.parameters =
          count_parameters(model_config(settings, contender, settings.lengths.front(), settings.vocab_size));
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("compare: {}: {}", label, error.what()));
    }
    contenders.push_back(std::move(contender));
  }
  return contenders;
}

ModelConfig model_config(const Settings& settings, const Contender& contender, std::int64_t tokens,
                         std::int64_t vocab_size) {
  // The learned rows of a mixer need room beside the tokens; how many they are is known from a first reading.
  const auto with_rows = [&](std::int64_t rows) {
    return config_from_json<ModelConfig>(document_of(settings, contender, rows, vocab_size), kShell);
  };
  const std::int64_t roomy = 1 << 20;
  return with_rows(with_rows(std::max(roomy, 4 * tokens)).global_rows().total(tokens));
}

TaskSpec parse_task(const std::string& text) {
  TaskSpec spec{.label = text};
  const std::size_t colon = text.find(':');
  Json document{{"type", find_task(text.substr(0, colon), "--task").name}};
  if (colon != std::string::npos)
    for (const std::string& setting : parts_of(text.substr(colon + 1), ',')) {
      constexpr std::string_view kLength = "length=";
      apply_override(document, setting);
      if (!setting.starts_with(kLength)) continue;
      const Json length = document["length"];
      document.erase("length");
      require_input(length.is_number_integer() && length.get<std::int64_t>() >= 1, "--task",
                    "'{}': length must be a whole number of 1 or more", text);
      spec.length = length.get<std::int64_t>();
    }
  spec.task = TaskConfig::from_json(document, "--task");
  spec.task.make(spec.length);
  return spec;
}

}  // namespace sq::compare
