#include "models/config.h"

#include "models/checkpoints/halo_s.h"
#include "nn/mixers/halo_s_config.h"
#include "nn/mixers/registry.h"
#include "nn/residuals/residual.h"

#include <map>

namespace sq {
namespace {

constexpr std::string_view kModelType = "subquad";

/// mixer, or mixer.3 in a list.
std::string entry_path(std::string_view path, std::size_t entry, std::size_t entries) {
  return entries == 1 ? std::string(path) : fmt::format("{}.{}", path, entry);
}

GlobalRows rows_of(const MixerConfig& mixer) { return find_mixer(mixer.type).global_rows(mixer.options); }

/// Layers with learned rows of their own share those of the model, so they must ask for the same.
void check_global_rows(const std::vector<MixerConfig>& mixers, std::string_view path) {
  const MixerConfig* first = nullptr;
  std::map<std::string, GlobalRows> by_type;
  for (std::size_t i = 0; i < mixers.size(); ++i) {
    const GlobalRows rows = rows_of(mixers[i]);
    const auto [seen, is_new] = by_type.emplace(mixers[i].type, rows);
    const bool agrees = (is_new || seen->second == rows) && (rows.count == 0 || !first || rows_of(*first) == rows);
    require_input(agrees, "config", "{} asks for other global rows than an entry before it; they must be the same",
                  entry_path(path, i, mixers.size()));
    if (rows.count > 0 && !first) first = &mixers[i];
  }
}

/// {"type": name, option: value, …} or the name alone -> name and options.
std::pair<std::string, Json> split_type(const Json& json, std::string_view path, std::string_view allowed) {
  if (json.is_string()) return {json.get<std::string>(), Json::object()};
  require_input(json.is_object(), "config", "{} must be {}", path, allowed);
  const auto type = json.find("type");
  require_input(type != json.end() && type->is_string(), "config", "{} needs a text 'type'", path);
  Json options = json;
  options.erase("type");
  return {type->get<std::string>(), std::move(options)};
}

Json with_type(const std::string& type, const Json& options) {
  Json json{{"type", type}};
  json.update(options);
  return json;
}

/// The help of one entry of a registry: its sentence, its paper, and its options under `path`.
template <class Entry>
std::string entry_help(std::string_view path, const Entry& entry) {
  std::vector<FieldHelp> rows = entry.help();
  for (FieldHelp& row : rows) row.key = join_path(path, row.key);
  return fmt::format("\n{}.type = {}: {} ({})\n{}", path, entry.name, entry.summary, entry.paper,
                     rows.empty() ? "" : help_table(rows));
}

}  // namespace

MixerConfig MixerConfig::from_json(const Json& json, std::string_view path) {
  const auto [type, options] = split_type(json, path, "an object with a type, a type alone, or a list of them");
  const MixerEntry& entry = find_mixer(type, join_path(path, "type"));
  return {std::string(entry.name), entry.normalise(options, path)};
}

Json MixerConfig::to_json() const { return with_type(type, options); }

LayerMixers::LayerMixers() : entries{{"halo_s", config_to_json(HaloSConfig{})}} {}

LayerMixers LayerMixers::from_json(const Json& json, std::string_view path) {
  if (!json.is_array()) return LayerMixers({MixerConfig::from_json(json, path)});
  require_input(!json.empty(), "config", "{} is an empty list but must have one entry per layer", path);
  std::vector<MixerConfig> mixers;
  for (std::size_t i = 0; i < json.size(); ++i)
    mixers.push_back(MixerConfig::from_json(json[i], fmt::format("{}.{}", path, i)));
  return LayerMixers(std::move(mixers));
}

Json LayerMixers::to_json() const {
  if (entries.size() == 1) return entries.front().to_json();
  Json list = Json::array();
  for (const MixerConfig& mixer : entries) list.push_back(mixer.to_json());
  return list;
}

ResidualConfig::ResidualConfig() : ResidualConfig("pre_norm", Json::object()) {}

ResidualConfig ResidualConfig::from_json(const Json& json, std::string_view path) {
  const auto [type, options] = split_type(json, path, "an object with a type, or a type alone");
  const ResidualEntry& entry = find_residual(type, join_path(path, "type"));
  return {std::string(entry.name), entry.normalise(options, path)};
}

Json ResidualConfig::to_json() const { return with_type(type, options); }

void ModelConfig::validate(std::string_view path) const {
  const std::string mixer_path = join_path(path, "mixer");
  const std::size_t entries = mixer.entries.size();
  require_input(entries == 1 || static_cast<std::int64_t>(entries) == num_layers, "config",
                "{} is a list of {} but num_layers is {}: one entry per layer, or one object for all", mixer_path,
                entries, num_layers);
  check_global_rows(mixer.entries, mixer_path);
  for (std::size_t i = 0; i < entries; ++i) {
    const MixerConfig& m = mixer.entries[i];
    find_mixer(m.type).check(m.options, context(static_cast<std::int64_t>(i)), entry_path(mixer_path, i, entries));
  }
}

const MixerConfig& ModelConfig::mixer_of(std::int64_t layer) const {
  require(layer >= 0 && layer < num_layers, "config", "there is no layer {} in a model of {} layers", layer,
          num_layers);
  return mixer.entries[mixer.entries.size() == 1 ? 0 : static_cast<std::size_t>(layer)];
}

MixerContext ModelConfig::context(std::int64_t layer) const {
  return {.hidden_size = hidden_size,
          .num_layers = num_layers,
          .layer = layer,
          .max_seq_len = max_seq_len,
          .rope = positions.type == PositionKind::rope,
          .rope_base = positions.base,
          .bias = bias,
          .dropout = dropout,
          .globals = global_rows()};
}

GlobalRows ModelConfig::global_rows() const {
  for (const MixerConfig& m : mixer.entries)
    if (const GlobalRows rows = rows_of(m); rows.count > 0) return rows;
  return {};
}

Json model_document(const ModelConfig& config) {
  Json document{{"model_type", kModelType}};
  document.update(config_to_json(config));
  return document;
}

ModelConfig read_model_document(const Json& document) {
  if (is_original_halo_s(document)) return to_model_config(read_original_halo_s(document), HaloDuplicates::counted);
  if (!document.is_object() || !document.contains("model_type")) return config_from_json<ModelConfig>(document);
  Json fields = document;
  fields.erase("model_type");
  require_input(document["model_type"] == kModelType, "config", "model_type is {} but must be \"{}\" or \"{}\"",
                document["model_type"].dump(-1, ' ', false, Json::error_handler_t::replace), kModelType,
                kOriginalHaloSType);
  return config_from_json<ModelConfig>(fields);
}

ModelConfig load_model_config(const std::string& path) {
  const Json document = read_json_file(path);
  try {
    return read_model_document(document);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("{}: {}", path, error.what()));
  }
}

std::string model_config_help() {
  std::string text = help_table(config_help<ModelConfig>());
  for (const MixerEntry* entry : mixer_registry()) text += entry_help("mixer", *entry);
  for (const ResidualEntry* entry : residual_registry()) text += entry_help("residual", *entry);
  return text;
}

}  // namespace sq
