// models/language_model.h: the one model; every published architecture is a configuration of it.
//
//   x  = dropout(token_emb[ids] (+ pos_emb, or sines and cosines))          [B,T,C]
//   x  = learned global rows inserted where the mixers want them            [B,S,C]
//   x  = layer_L(… layer_1(x))     x ← x + mixer(norm x);  x ← x + ffn(norm x)
//   x  = ln_f(x), global rows dropped                                       [B,T,C]
//   logits = lm_head x                                                      [B,T,V]
#pragma once

#include "models/config.h"
#include "models/layer.h"
#include "nn/embedding.h"
#include "nn/sinusoidal.h"
#include "ops/cross_entropy.h"
#include "tensor/random.h"

#include <memory>
#include <span>
#include <vector>

namespace sq {

/// What a model remembers of the tokens it has read, for each row of a batch.
class ModelState {
 public:
  /// Tokens read so far in each row (global rows not counted).
  std::span<const std::int64_t> tokens() const { return tokens_; }
  /// Tokens that each row can hold.
  std::int64_t capacity() const { return capacity_; }
  std::int64_t batch() const { return static_cast<std::int64_t>(tokens_.size()); }
  /// Bytes of all layers' states.
  std::int64_t bytes() const;

 private:
  friend class LanguageModel;
  std::vector<std::unique_ptr<MixerState>> layers_;
  std::vector<std::unique_ptr<ModelState>> rows_;  // instead of layers_, where rows insert globals at different times
  std::vector<std::int64_t> tokens_;
  std::int64_t capacity_ = 0;
};

class LanguageModel : public Module {
 public:
  /// Fresh parameters drawn from `generator`. Throws UsageError when vocab_size is still 0 or the configuration
  /// contradicts itself.
  explicit LanguageModel(const ModelConfig& config, TensorOptions options = {},
                         Generator& generator = default_generator());

  const ModelConfig& config() const { return config_; }
  /// Of activations and logits.
  TensorOptions options() const {
    const TensorOptions weights = token_embedding_->weight().options();
    return {holds_half_matrices() ? DType::f32 : weights.dtype, weights.device};
  }
  /// Tokens of the longest sequence: max_seq_len without the global rows that stand before it.
  std::int64_t max_tokens() const { return max_tokens_; }
  /// False when the result at a position depends on the total length (the faithful HALO-S graph), so that no state can
  /// stand for the past.
  bool can_step() const;
  /// Whether layers are recomputed in the backward pass instead of being remembered (autograd/checkpoint.h). Acts in
  /// training mode only; off at first.
  void set_recompute_layers(bool on) { recompute_layers_ = on; }

  /// ids i64|i32 [B,T], T >= 1. Positions at or past info.lengths[b], or at zeros of info.mask,
  /// are padding. Results [B,T,C] after the final norm.
  /// Throws Error when an id is outside the vocabulary, T exceeds max_tokens() or info does not fit.
  Tensor hidden(const Tensor& ids, const SequenceInfo& info = {});
  /// The same, multiplied by the output projection: logits [B,T,V].
  Tensor forward(const Tensor& ids, const SequenceInfo& info = {});
  /// Mean cross-entropy against targets i64|i32 [B,T]; padding does not count. The logits are never stored whole
  /// (ops/cross_entropy.h).
  Tensor loss(const Tensor& ids, const Tensor& targets, const CrossEntropyOptions& options = {},
              const SequenceInfo& info = {});

  /// An empty state. Throws Error when can_step() is false or capacity is not in 1 … max_tokens().
  std::unique_ptr<ModelState> make_state(std::int64_t batch, std::int64_t capacity) const;
  /// Reads the next t >= 1 tokens of every row, ids [B,t], and gives the logits that follow the last of them, [B,V].
  /// `counts`, if not empty, says how many of the t are real in each row (the first ones; the rest is padding); the
  /// logits of a row with none mean nothing. Equal to `forward` on the whole sequence in evaluation mode. Unrecorded.
  /// Throws Error, and changes nothing, when a row would exceed the state's capacity.
  Tensor step(const Tensor& ids, ModelState& state, std::span<const std::int64_t> counts = {});

  /// The product with the output projection, [..., C] -> [..., V].
  Tensor project(const Tensor& x) const;

 private:
  Tensor embed(const Tensor& ids, std::span<const std::int64_t> first_positions);
  Tensor add_positions(const Tensor& x, std::span<const std::int64_t> first_positions);
  Tensor insert_globals(const Tensor& x, std::int64_t first_token) const;
  Tensor drop_globals(const Tensor& x, std::int64_t tokens) const;
  Tensor run_layers(const Tensor& x, const SequenceInfo& info);
  Tensor hidden_of_documents(const Tensor& ids, const SequenceInfo& info);
  Tensor step_rows(const Tensor& ids, ModelState& state, std::span<const std::int64_t> counts);

  ModelConfig config_;
  GlobalRows globals_;
  std::int64_t max_tokens_;                         // asked for at every token
  Tensor global_memory_;                            // [G,C], if a mixer wants global rows
  std::unique_ptr<Embedding> token_embedding_;      // [V,C]
  std::unique_ptr<Embedding> position_embedding_;   // [max_tokens(),C], with learned positions
  std::unique_ptr<SinusoidalPositions> sinusoids_;  // with sinusoidal positions
  Dropout embedding_dropout_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::unique_ptr<Norm> final_norm_;
  std::unique_ptr<Linear> head_;  // none when tied: the token embedding serves
  bool recompute_layers_ = false;
};

}  // namespace sq
