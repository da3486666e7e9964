#include "models/checkpoints/bsbr.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <array>
#include <optional>

namespace sq {
namespace {

struct NamePair {
  std::string_view theirs, ours;
};

/// Modules outside the layers.
constexpr std::array<NamePair, 3> kModelNames{
    {{"embedding", "token_emb"}, {"layer_norm", "ln_f"}, {"lm_head", "lm_head"}}};
/// Modules inside a layer.
constexpr std::array<NamePair, 14> kLayerNames{{{"layer_norm1", "ln_1"},
                                                {"layer_norm2", "ln_2"},
                                                {"ff.0", "ffn.w1"},
                                                {"ff.3", "ffn.w2"},
                                                {"attention.q_proj", "attn.q_proj"},
                                                {"attention.k_proj", "attn.k_proj"},
                                                {"attention.v_proj", "attn.v_proj"},
                                                {"attention.out_proj", "attn.o_proj"},
                                                {"attention.gate_proj", "attn.gate_proj"},
                                                {"attention.b_proj", "b_proj"},
                                                {"attention.meta_r_proj", "attn.meta_r_proj"},
                                                {"attention.meta_h_proj", "attn.meta_h_proj"},
                                                {"attention.compress_proj", "attn.compress_proj"},
                                                {"attention.decompress_proj", "attn.decompress_proj"}}};

/// layers.N.MODULE.weight or MODULE.weight with the module's name replaced, nothing when it has no pair.
std::optional<std::string> renamed(std::string_view name, std::string_view NamePair::*from,
                                   std::string_view NamePair::*to) {
  constexpr std::string_view kLayers = "layers.";
  std::string_view prefix;
  if (name.starts_with(kLayers)) {
    const std::size_t number_end = name.find('.', kLayers.size());
    if (number_end == std::string_view::npos) return std::nullopt;
    prefix = name.substr(0, number_end + 1);
  }
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot < prefix.size()) return std::nullopt;
  const std::string_view module = name.substr(prefix.size(), dot - prefix.size());
  const std::span<const NamePair> table = prefix.empty() ? std::span<const NamePair>(kModelNames) : kLayerNames;
  for (const NamePair& pair : table)
    if (pair.*from == module) return fmt::format("{}{}{}", prefix, pair.*to, name.substr(dot));
  return std::nullopt;
}

Json mixer_of(const BsbrLibraryModel& m, BsbrReading reading) {
  const bool faithful = reading == BsbrReading::original;
  switch (m.family) {
    case BsbrFamily::standard:
      return {{"type", "dense"}, {"num_heads", m.num_heads}, {"num_kv_heads", m.num_heads}};
    case BsbrFamily::linear:
      return {{"type", "linear"}, {"num_heads", m.num_heads}, {"feature_map", "identity"}, {"faithful", faithful}};
    case BsbrFamily::delta_net:
      return {{"type", "delta_net"},
              {"num_heads", m.num_heads},
              {"beta", "constant"},
              {"beta_value", m.beta},
              {"faithful", faithful}};
    case BsbrFamily::sliding_window:
      return {{"type", "sliding_window"}, {"num_heads", m.num_heads}, {"window", m.window_size}};
    case BsbrFamily::hopfield:
      return {{"type", "hopfield"}, {"num_heads", m.num_heads}, {"temperature", m.temperature}};
    case BsbrFamily::gau:
      return {
          {"type", "gau"}, {"chunk_size", m.chunk_size}, {"expansion_factor", m.expansion_factor}, {"scaled", false}};
    case BsbrFamily::bsbr:
      return {{"type", "bsbr"},
              {"num_heads", m.num_heads},
              {"chunk_size", m.chunk_size},
              {"compression_factor", m.compression_factor},
              {"state_norm", "none"},
              {"faithful", faithful}};
  }
  throw Error("bsbr: no such family");
}

}  // namespace

ModelConfig to_model_config(const BsbrLibraryModel& model, BsbrReading reading) {
  constexpr std::int64_t kTableRows = 5000;
  check_config(model);
  ModelConfig config;
  config.vocab_size = model.vocab_size;
  config.hidden_size = model.hidden_dim;
  config.num_layers = model.num_layers;
  config.max_seq_len = kTableRows;
  config.mixer = LayerMixers::from_json(mixer_of(model, reading), "mixer");
  if (model.family == BsbrFamily::delta_net && reading == BsbrReading::original)
    config.residual = ResidualConfig::from_json(Json{{"type", "weighted"}, {"keep", 0.9}, {"add", 0.1}}, "residual");
  config.norm = {.type = NormKind::layer, .epsilon = 1e-5, .bias = true};
  config.feed_forward = {
      .type = FeedForwardKind::gelu, .width = model.ff_dim, .bias = true, .inner_dropout = model.dropout};
  config.positions.type = PositionKind::sinusoidal;
  config.bias = true;
  config.dropout = config.embedding_dropout = model.dropout;
  config.init = InitScheme::faithful;
  check_config(config);
  return config;
}

NamedTensors from_bsbr_names(const NamedTensors& tensors, std::string_view where) {
  NamedTensors result;
  std::vector<std::string> unknown;
  for (const auto& [name, tensor] : tensors) {
    if (name == "pos_encoding.pe") continue;
    if (const auto ours = renamed(name, &NamePair::theirs, &NamePair::ours))
      result.emplace_back(*ours, tensor);
    else
      unknown.push_back(name);
  }
  require_input(unknown.empty(), where, "these are no parameters of the BSBR library: {}", fmt::join(unknown, ", "));
  return result;
}

std::string to_bsbr_name(const std::string& name) {
  const auto theirs = renamed(name, &NamePair::ours, &NamePair::theirs);
  require_input(theirs.has_value(), "bsbr", "the BSBR library has no parameter that corresponds to '{}'", name);
  return *theirs;
}

}  // namespace sq
