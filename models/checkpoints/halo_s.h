// models/checkpoints/halo_s.h: models of the original HALO-S (pyhalos), folders with config.json and safetensors.
//
// Their parameter names are those of our HALO-S models (models/estimate.h lists them), so the map of names is the
// identity; what differs is the configuration. Version 1.x had no w3: a file without `layers.0.ffn.w3.weight` whose
// config says nothing about use_swiglu is a GELU model.
#pragma once

#include "models/config.h"
#include "nn/mixers/halo_s_config.h"

namespace sq {

inline constexpr std::string_view kOriginalHaloSType = "halo-s";

/// The original's twelve fields.
struct OriginalHaloS {
  std::int64_t vocab_size = 256;
  std::int64_t hidden_size = 512;
  std::int64_t num_layers = 6;
  std::int64_t num_heads = 8;
  std::int64_t num_kv_heads = 2;
  std::int64_t num_globals = 2;
  std::int64_t local_window = 64;
  std::vector<std::int64_t> dilated_offsets = {1, 2, 4, 8};
  std::int64_t num_random = 2;
  double dropout = 0.1;
  std::int64_t max_seq_len = 4096;
  bool use_swiglu = true;

  static constexpr auto fields() {
    using C = OriginalHaloS;
    return std::tuple{
        field("vocab_size", &C::vocab_size, "token ids", {.min = 1, .max = 1 << 30}),
        field("hidden_size", &C::hidden_size, "features of a position", {.min = 1, .max = 1 << 18}),
        field("num_layers", &C::num_layers, "layers", {.min = 1, .max = 1 << 12}),
        field("num_heads", &C::num_heads, "query heads", {.min = 1, .max = 1 << 12}),
        field("num_kv_heads", &C::num_kv_heads, "key/value heads", {.min = 1, .max = 1 << 12}),
        field("num_globals", &C::num_globals, "learned global rows", {.min = 1, .max = 1 << 12}),
        field("local_window", &C::local_window, "nearest positions", {.min = 1, .max = 1 << 16}),
        field("dilated_offsets", &C::dilated_offsets, "distances of far neighbors, both ways",
              {.each = {.min = 1, .max = 1 << 30}, .distinct = true}),
        field("num_random", &C::num_random, "pseudo-random neighbors", {.min = 0, .max = 1 << 12}),
        field("dropout", &C::dropout, "share set to 0 in training", {.min = 0, .max = 1, .below_max = true}),
        field("max_seq_len", &C::max_seq_len, "globals and tokens", {.min = 1, .max = 1 << 26}),
        field("use_swiglu", &C::use_swiglu, "gated feed-forward; otherwise exact GELU"),
    };
  }
  void validate(std::string_view path) const;

  std::int64_t head_dim() const { return hidden_size / num_heads; }
  std::int64_t num_neighbors() const;
};

/// A config.json with "model_type": "halo-s".
bool is_original_halo_s(const Json& document);

/// The twelve fields; model_type, architectures, halo_version and torch_dtype are passed over, other unknown keys and
/// bad values are a UsageError.
OriginalHaloS read_original_halo_s(const Json& document);

/// The same model here: faithful graph, rotated globals, feed-forward of width 4·hidden_size. `duplicates` is not in
/// the file: `counted` for models of version 1.x or trained on a CPU, `once` for those trained by 2.x on GPUs.
ModelConfig to_model_config(const OriginalHaloS& original, HaloDuplicates duplicates);

/// The original's dense baseline of the same sizes: as many key/value heads as query heads, no globals.
ModelConfig to_baseline_config(const OriginalHaloS& original);

}  // namespace sq
