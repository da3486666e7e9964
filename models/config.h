// models/config.h: everything that defines a language model, as one validated struct with a JSON form.
//
//   {"vocab_size": 256, "hidden_size": 512, "num_layers": 6, "max_seq_len": 4096,
//    "mixer": {"type": "halo_s", "num_heads": 8, …},      or "dense", or a list with one entry per layer
//    "residual": {"type": "pre_norm"}, "norm": {"type": "layer_norm"}, "feed_forward": {"type": "swiglu"},
//    "positions": {"type": "rope"}, "tie_embeddings": false, "bias": false, "dropout": 0.0, "init": "scaled"}
//
// Keys that are left out take the defaults below. Whatever cannot be built is refused when it is read, with a
// UsageError that names the key, its value and the rule.
#pragma once

#include "nn/feed_forward.h"
#include "nn/fields.h"
#include "nn/init.h"
#include "nn/mixers/plan.h"
#include "nn/norm.h"

#include <nlohmann/json.hpp>

namespace sq {

/// A mixer by name, with all its options as the registry (nn/mixers/registry.h) completed and checked them.
struct MixerConfig {
  std::string type;
  Json options;

  /// {"type": name, option: value, …}, or the name alone for an object with nothing else.
  static MixerConfig from_json(const Json& json, std::string_view path);
  Json to_json() const;
};

/// One mixer for all layers, or one for each.
struct LayerMixers {
  static constexpr std::string_view kAllowed = "a mixer, or a list of one per layer";

  std::vector<MixerConfig> entries;

  /// HALO-S with its default options.
  LayerMixers();
  explicit LayerMixers(std::vector<MixerConfig> mixers) : entries(std::move(mixers)) {}
  static LayerMixers from_json(const Json& json, std::string_view path);
  Json to_json() const;
};

/// A residual by name, with its options as its registry (nn/residuals/residual.h) completed and checked them.
struct ResidualConfig {
  static constexpr std::string_view kAllowed = "a residual";

  std::string type;
  Json options;

  /// pre_norm.
  ResidualConfig();
  ResidualConfig(std::string name, Json given) : type(std::move(name)), options(std::move(given)) {}
  /// {"type": name, option: value, …}, or the name alone for an object with nothing else.
  static ResidualConfig from_json(const Json& json, std::string_view path);
  Json to_json() const;
};

struct NormConfig {
  NormKind type = NormKind::layer;
  double epsilon = 1e-5;
  bool bias = true;

  static constexpr auto fields() {
    using C = NormConfig;
    return std::tuple{
        field("type", &C::type, "normalisation in front of each branch and at the end"),
        field("epsilon", &C::epsilon, "added to the variance", {.min = 0, .max = 1, .above_min = true}),
        field("bias", &C::bias, "learned shift (layer_norm)"),
    };
  }
  NormOptions options() const { return {.kind = type, .bias = bias, .epsilon = epsilon}; }
};

struct FeedForwardConfig {
  FeedForwardKind type = FeedForwardKind::swiglu;
  std::int64_t width = 0;
  bool bias = false;
  double inner_dropout = 0;
  GateInit gate_init = GateInit::uniform;

  static constexpr auto fields() {
    using C = FeedForwardConfig;
    return std::tuple{
        field("type", &C::type, "gated SiLU, exact GELU, or its tanh form"),
        field("width", &C::width,
              "inner features; 0 = 8/3 hidden_size, up to a multiple of 64 (swiglu), or 4 hidden_size",
              {.min = 0, .max = 1 << 22}),
        field("bias", &C::bias, "biases in its linear layers"),
        field("inner_dropout", &C::inner_dropout, "share of the inner features set to 0 in training",
              {.min = 0, .max = 1, .below_max = true}),
        field("gate_init", &C::gate_init, "first values of swiglu's gate; ones as the original HALO-S"),
    };
  }
  FeedForwardOptions options(double dropout) const {
    return {.kind = type,
            .width = width,
            .bias = bias,
            .dropout = dropout,
            .inner_dropout = inner_dropout,
            .gate_init = gate_init};
  }
};

/// rope: rotated queries and keys (Su et al. 2021). learned: a table added to the embeddings. sinusoidal: sines and
/// cosines added to them (nn/sinusoidal.h). none: nothing.
enum class PositionKind { rope, learned, sinusoidal, none };
constexpr std::array<std::string_view, 4> choices(PositionKind) { return {"rope", "learned", "sinusoidal", "none"}; }

struct PositionConfig {
  PositionKind type = PositionKind::rope;
  double base = 10000;

  static constexpr auto fields() {
    return std::tuple{
        field("type", &PositionConfig::type, "how the model knows positions"),
        field("base", &PositionConfig::base, "rope and sinusoidal: wavelengths run from 2π to about 2π·base",
              {.min = 1}),
    };
  }
};

struct ModelConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 512;
  std::int64_t num_layers = 6;
  std::int64_t max_seq_len = 4096;
  LayerMixers mixer = {};
  ResidualConfig residual = {};
  NormConfig norm = {};
  FeedForwardConfig feed_forward = {};
  PositionConfig positions = {};
  bool tie_embeddings = false;
  bool bias = false;
  double dropout = 0;
  double embedding_dropout = 0;
  InitScheme init = InitScheme::scaled;

  static constexpr auto fields() {
    using C = ModelConfig;
    return std::tuple{
        field("vocab_size", &C::vocab_size, "token ids; 0 = as many as the tokenizer has", {.min = 0, .max = 1 << 30}),
        field("hidden_size", &C::hidden_size, "features of a position", {.min = 1, .max = 1 << 18}),
        field("num_layers", &C::num_layers, "layers", {.min = 1, .max = 1 << 12}),
        field("max_seq_len", &C::max_seq_len, "positions of the longest sequence, learned globals included",
              {.min = 1, .max = 1 << 26}),
        field("mixer", &C::mixer, "what moves information between positions"),
        field("residual", &C::residual, "how branches join the stream"),
        field("norm", &C::norm, "normalisation"),
        field("feed_forward", &C::feed_forward, "the part of a layer that treats positions one by one"),
        field("positions", &C::positions, "how the model knows positions"),
        field("tie_embeddings", &C::tie_embeddings, "the head uses the embedding table"),
        field("bias", &C::bias, "biases in the mixers' linear layers"),
        field("dropout", &C::dropout, "share set to 0 in training", {.min = 0, .max = 1, .below_max = true}),
        field("embedding_dropout", &C::embedding_dropout, "the same for the embeddings, positions added",
              {.min = 0, .max = 1, .below_max = true}),
        field("init", &C::init, "first values: scaled with depth, or as the original HALO-S"),
    };
  }
  /// Rules between fields; called after reading JSON and by check_config().
  void validate(std::string_view path) const;

  const MixerConfig& mixer_of(std::int64_t layer) const;
  MixerContext context(std::int64_t layer) const;
  /// Learned rows beside the tokens; all mixers that have any agree on them.
  GlobalRows global_rows() const;
  /// Tokens of the longest sequence: max_seq_len without the globals.
  std::int64_t max_tokens() const { return max_seq_len - global_rows().count; }
};

/// What a model folder's config.json holds: {"model_type": "subquad", …all fields}.
Json model_document(const ModelConfig& config);

/// Reads such a document, with or without model_type, or the config.json of an original HALO-S
/// (models/checkpoints/halo_s.h). Throws UsageError.
ModelConfig read_model_document(const Json& document);

/// The same from a file; errors begin with its path.
ModelConfig load_model_config(const std::string& path);

/// Help for every key, the options of each mixer included.
std::string model_config_help();

}  // namespace sq
