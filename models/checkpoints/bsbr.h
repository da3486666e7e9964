// models/checkpoints/bsbr.h: models of the BSBR library (version 0.1.2): seven transformers that differ in the mixer.
//
// Their shell is one of our configurations: embeddings scaled by nothing plus sines and cosines, pre-norm layers with
// LayerNorm (ε 1e-5), exact GELU, biases everywhere but in the head. Names:
//
//   embedding.weight                              token_emb.weight
//   layers.N.layer_norm1, .layer_norm2            layers.N.ln_1, .ln_2
//   layers.N.attention.{q,k,v}_proj, .out_proj    layers.N.attn.{q,k,v}_proj, .o_proj
//   layers.N.attention.gate_proj (GAU), .meta_r_proj, .meta_h_proj, .compress_proj, .decompress_proj (BSBR)
//                                                 the same under layers.N.attn
//   layers.N.attention.b_proj (learned β)         layers.N.b_proj
//   layers.N.ff.0, .ff.3                          layers.N.ffn.w1, .w2
//   layer_norm                                    ln_f
//   lm_head.weight                                the same; the library's own models end before it
//   pos_encoding.pe                               computed, not stored
#pragma once

#include "models/config.h"
#include "tensor/safetensors.h"

namespace sq {

enum class BsbrFamily { standard, linear, delta_net, sliding_window, hopfield, gau, bsbr };
constexpr std::array<std::string_view, 7> choices(BsbrFamily) {
  return {"standard", "linear", "deltanet", "sliding_window", "hopfield", "gau", "bsbr"};
}

/// The arguments of the library's constructors.
struct BsbrLibraryModel {
  BsbrFamily family = BsbrFamily::bsbr;
  std::int64_t vocab_size = 10000;
  std::int64_t hidden_dim = 256;
  std::int64_t num_layers = 2;
  std::int64_t num_heads = 4;  // not of GAU
  std::int64_t ff_dim = 512;
  double dropout = 0.1;
  std::int64_t chunk_size = 32;         // BSBR, GAU
  std::int64_t compression_factor = 0;  // BSBR; 0 = states as they are
  std::int64_t window_size = 32;        // SlidingWindow
  double beta = 0.9;                    // DeltaNet
  double temperature = 1;               // Hopfield
  std::int64_t expansion_factor = 2;    // GAU

  static constexpr auto fields() {
    using C = BsbrLibraryModel;
    return std::tuple{
        field("family", &C::family, "which of the seven"),
        field("vocab_size", &C::vocab_size, "token ids", {.min = 1, .max = 1 << 30}),
        field("hidden_dim", &C::hidden_dim, "features of a position", {.min = 1, .max = 1 << 18}),
        field("num_layers", &C::num_layers, "layers", {.min = 1, .max = 1 << 12}),
        field("num_heads", &C::num_heads, "heads", {.min = 1, .max = 1 << 12}),
        field("ff_dim", &C::ff_dim, "inner features of the feed-forward", {.min = 1, .max = 1 << 22}),
        field("dropout", &C::dropout, "share set to 0 in training", {.min = 0, .max = 1, .below_max = true}),
        field("chunk_size", &C::chunk_size, "BSBR, GAU: tokens of a chunk", {.min = 1, .max = 1 << 26}),
        field("compression_factor", &C::compression_factor, "BSBR: 0 = no compression", {.min = 0, .max = 1 << 12}),
        field("window_size", &C::window_size, "SlidingWindow: positions before its own", {.min = 0, .max = 1 << 26}),
        field("beta", &C::beta, "DeltaNet: strength of a write", {.min = 0, .max = 2}),
        field("temperature", &C::temperature, "Hopfield", {.min = 0, .max = 1e4, .above_min = true}),
        field("expansion_factor", &C::expansion_factor, "GAU: inner width over hidden_dim", {.min = 1, .max = 64}),
    };
  }
};

/// original: what the library computes, faults included. corrected: causal, nothing clamped, plain residuals.
enum class BsbrReading { original, corrected };

/// The same model here. Throws UsageError when it cannot be built.
ModelConfig to_model_config(const BsbrLibraryModel& model, BsbrReading reading);

/// Tensors under our names, sharing memory; pos_encoding.pe is left out. Throws UsageError, beginning with `where`,
/// that lists the names it does not know.
NamedTensors from_bsbr_names(const NamedTensors& tensors, std::string_view where);

/// The library's name of one of our parameters. Throws UsageError when it has none.
std::string to_bsbr_name(const std::string& name);

}  // namespace sq
