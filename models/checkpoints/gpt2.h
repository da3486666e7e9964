// models/checkpoints/gpt2.h: GPT-2 (Radford et al. 2019) as Hugging Face stores it, a folder with config.json and
// model.safetensors, becomes one of our models: with dense attention the same model, with `bsbr` one whose attention is
// block-sparse.
//
// Names (with or without `transformer.` in front), their linear maps being stored [in,out], ours [out,in]:
//
//   wte.weight [V,C], wpe.weight [P,C]         token_emb.weight, pos_emb.weight
//   h.N.ln_1, h.N.ln_2, ln_f                   layers.N.ln_1, layers.N.ln_2, ln_f
//   h.N.attn.c_attn [C,3C]                     layers.N.attn.{q,k,v}_proj: columns 0…C, C…2C, 2C…3C
//   h.N.attn.c_proj [C,C]                      layers.N.attn.o_proj
//   h.N.mlp.c_fc [C,F], h.N.mlp.c_proj [F,C]   layers.N.ffn.w1, layers.N.ffn.w2
//   lm_head.weight [V,C]                       the token embedding, unless tie_word_embeddings is false
//
// The causal masks that some files hold (h.N.attn.bias, h.N.attn.masked_bias) are passed over.
#pragma once

#include "models/config.h"
#include "models/language_model.h"

#include <filesystem>
#include <memory>

namespace sq {

/// What of GPT-2's configuration decides its results.
struct Gpt2Config {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  std::int64_t inner_size = 0;  // F
  std::int64_t max_positions = 0;
  double layer_norm_epsilon = 1e-5;
  FeedForwardKind activation = FeedForwardKind::gelu_tanh;
  double dropout = 0, embedding_dropout = 0;
  bool tied_head = true;
  bool scale_scores = true;     // by 1/√D
  bool scale_by_layer = false;  // by 1/(layer+1) as well

  /// What the queries of a layer are multiplied by so that scores divided by √D come out as this model's.
  double query_factor(std::int64_t layer) const;
};

/// Reads a config.json: "model_type": "gpt2" with n_embd, n_layer, n_head, n_positions, n_inner, or hidden_size,
/// num_hidden_layers, num_attention_heads, max_position_embeddings. Keys that do not change results are passed over.
/// Throws UsageError, beginning with `where`, for another model or architecture, for a missing or bad value, and for
/// options that are not computed here, such as cross attention or another activation.
Gpt2Config read_gpt2_config(const Json& document, std::string_view where);

/// What takes the place of GPT-2's attention.
struct Gpt2Target {
  enum class Mixer { dense, bsbr };
  Mixer mixer = Mixer::dense;
  // bsbr only:
  std::int64_t chunk_size = 128;
  std::string state_norm = "mean";  // none or mean; see nn/mixers/bsbr_config.h
  double retrieval_gate = 0;        // first value of each head's gate; 0: every chunk is GPT-2 for itself
};

/// Our model with GPT-2's shell: learned positions, LayerNorm with GPT-2's ε, biases, GELU, tied head.
ModelConfig to_model_config(const Gpt2Config& config, const Gpt2Target& target = {});

/// GPT-2's tensors under our names, f32 copies. For bsbr also what GPT-2 lacks: the retriever and the chunk key,
/// meta_r = (q + k)/2, meta_h = (k + v)/2, weights and biases, and the gates. The first chunk of the result, and all of
/// a text that is no longer, has GPT-2's logits: there is nothing to retrieve. With a gate of 0 so has every chunk that
/// is read alone. Throws UsageError, beginning with `where`, that lists
/// all missing, unknown and misshapen tensors.
NamedTensors convert_gpt2_tensors(const Gpt2Config& config, const Gpt2Target& target, const NamedTensors& tensors,
                                  std::string_view where);

struct Gpt2Import {
  Gpt2Config source;
  std::unique_ptr<LanguageModel> model;  // f32, in evaluation mode
};

/// Reads and converts a folder. Throws UsageError as the functions above, and when a file is missing.
Gpt2Import import_gpt2(const std::filesystem::path& folder, const Gpt2Target& target = {});

}  // namespace sq
