// models/estimate.h: parameters, operations and bytes of a model, from its configuration alone.
#pragma once

#include "models/config.h"

#include <string>
#include <vector>

namespace sq {

/// Every parameter of the model in the order in which it is stored:
///   global_memory [G,C]                              where a mixer has learned global rows
///   token_emb.weight [V,C], pos_emb.weight [N,C]     the table of learned positions; N = max_tokens()
///   layers.{l}.ln_1.weight, .bias [C]
///   layers.{l}.attn.{q,k,v,o}_proj.weight, …         as the mixer says
///   layers.{l}.ln_2.weight, .bias [C]
///   layers.{l}.ffn.{w1,w2,w3}.weight [F,C],[C,F],[F,C], biases after the weights; w3 with swiglu only
///   ln_f.weight, .bias [C], lm_head.weight [V,C]     the head unless tied
/// Throws UsageError when vocab_size is still 0.
NamedShapes parameter_shapes(const ModelConfig& config);

std::int64_t count_parameters(const ModelConfig& config);

/// One line of the table: a part of the model, all its layers together, for one sequence of T tokens.
struct PartEstimate {
  std::string part;
  std::int64_t parameters = 0;
  double forward_flops = 0;      // a multiply-add counts two; norms, activations and softmax are left out
  std::int64_t state_bytes = 0;  // what decoding keeps for T tokens, f32
};

/// A model at one length.
struct ModelEstimate {
  std::int64_t tokens = 0;
  std::vector<PartEstimate> parts;  // embeddings, mixer (one line for each kind), feed-forward, norms, head
  PartEstimate total;
  /// f32 bytes: the weights; and gradients with AdamW's two averages.
  std::int64_t weight_bytes = 0;
  std::int64_t training_bytes = 0;
  /// Bytes by which the decoding state grew over the last tokens, per token: state(T) - state(T/2) over T - T/2.
  double state_bytes_per_token = 0;
};

/// Throws UsageError unless 1 <= tokens <= config.max_tokens().
ModelEstimate estimate_model(const ModelConfig& config, std::int64_t tokens);

/// The table that `subquad summary` prints.
std::string summary_table(const ModelConfig& config, const ModelEstimate& estimate);
/// The same with stable keys: parameters, forward_flops, forward_flops_per_token, weight_bytes, training_bytes,
/// state_bytes, state_bytes_per_token, tokens, parts.
Json summary_json(const ModelEstimate& estimate);

}  // namespace sq
