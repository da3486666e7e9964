#include "models/checkpoints/halo_s.h"

#include "nn/mixers/dense_config.h"

namespace sq {
namespace {

HaloSConfig mixer_of(const OriginalHaloS& original, HaloDuplicates duplicates) {
  return {.num_heads = original.num_heads,
          .num_kv_heads = original.num_kv_heads,
          .num_globals = original.num_globals,
          .local_window = original.local_window,
          .dilated_offsets = original.dilated_offsets,
          .num_random = original.num_random,
          .graph = HaloGraph::faithful,
          .duplicates = duplicates,
          .globals = HaloGlobals::fixed,
          .rotate_globals = true};
}

/// All that the model and its baseline share.
ModelConfig common_config(const OriginalHaloS& original, MixerConfig mixer) {
  ModelConfig config;
  config.vocab_size = original.vocab_size;
  config.hidden_size = original.hidden_size;
  config.num_layers = original.num_layers;
  config.max_seq_len = original.max_seq_len;
  config.mixer = LayerMixers({std::move(mixer)});
  config.norm = {.type = NormKind::layer, .epsilon = 1e-5, .bias = true};
  config.feed_forward = {.type = original.use_swiglu ? FeedForwardKind::swiglu : FeedForwardKind::gelu,
                         .width = 4 * original.hidden_size,
                         .bias = false,
                         .gate_init = GateInit::ones};
  config.dropout = original.dropout;
  config.init = InitScheme::faithful;
  check_config(config);
  return config;
}

}  // namespace

void OriginalHaloS::validate(std::string_view path) const {
  const HaloSConfig mixer = mixer_of(*this, HaloDuplicates::counted);
  mixer.validate(path);
  mixer.check({.hidden_size = hidden_size, .num_layers = num_layers, .max_seq_len = max_seq_len}, path);
}

std::int64_t OriginalHaloS::num_neighbors() const { return mixer_of(*this, HaloDuplicates::counted).num_neighbors(); }

bool is_original_halo_s(const Json& document) {
  if (!document.is_object()) return false;
  const auto type = document.find("model_type");
  return type != document.end() && *type == kOriginalHaloSType;
}

OriginalHaloS read_original_halo_s(const Json& document) {
  Json fields = document;
  if (fields.is_object())
    for (const char* key : {"model_type", "architectures", "halo_version", "torch_dtype"}) fields.erase(key);
  return config_from_json<OriginalHaloS>(fields);
}

ModelConfig to_model_config(const OriginalHaloS& original, HaloDuplicates duplicates) {
  return common_config(original, {"halo_s", config_to_json(mixer_of(original, duplicates))});
}

ModelConfig to_baseline_config(const OriginalHaloS& original) {
  const DenseConfig dense{
      .num_heads = original.num_heads, .num_kv_heads = original.num_heads, .head_dim = 0, .causal = true};
  return common_config(original, {"dense", config_to_json(dense)});
}

}  // namespace sq
