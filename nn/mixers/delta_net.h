// nn/mixers/delta_net.h: a memory of constant size that overwrites what it held under a key.
//
// Per head, with q and k of length 1 (Schlag et al. 2021, Linear Transformers Are Secretly Fast Weight Programmers, eq.
// 24; in parallel over positions: Yang et al. 2024, Parallelizing Linear Transformers with the Delta Rule):
//
//   S_t = S_{t-1} + β_t k_t (v_t - S_{t-1}ᵀ k_t)ᵀ [D,D],   o_t = S_tᵀ q_t
//
// The memory is asked what it holds under k_t, and the share β_t of the difference to v_t is written. β = 1 replaces
// the old value, 0 leaves it. A linear attention of the same size would add v_t to what is there; the difference shows
// as soon as keys repeat or resemble each other. Computed in chunks (ops/delta_rule.h).
//
// β is one constant, or β_t = σ(W_b x_t + b_b) for each head. With `negative_eigenvalues` β_t = 2σ(…): 1 - β_t, by
// which a step multiplies what is stored along k_t, then reaches from 1 to -1, so that the memory can count modulo two
// (Grazzi et al. 2025, Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues). Keys of length 1 and 0 <=
// β <= 2 keep the memory bounded.
//
// No rotary positions, whatever the model uses: a value is found again by the content of its key, which at a later
// position would have been turned to another vector. The recurrence itself knows the order.
//
// Cost for T positions: time O(T·D·C + T·64·C), memory O(T·C + T/64·D·C), state H·D·D numbers whatever the length. Up
// to D different keys a head are recalled exactly. Take it for recall and for tracking what changes over long streams,
// and as the cheap layers of a hybrid.
//
// `output_norm` scales each head's result (nn/mixers/head_norm.h), which deep models train better with.
//
// With `conv_size` W > 0 a short convolution and silu come before all this (nn/mixers/convolved_heads.h); β is made
// from x itself.
//
// `faithful` computes what the BSBR library 0.1.2 computes: see nn/mixers/delta_net_faithful.h.
#pragma once

#include "nn/dropout.h"
#include "nn/fields.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/convolved_heads.h"
#include "nn/mixers/head_norm.h"
#include "nn/mixers/mixer.h"

#include <memory>

namespace sq {

/// Where β comes from.
enum class DeltaBeta { constant, learned };
constexpr std::array<std::string_view, 2> choices(DeltaBeta) { return {"constant", "learned"}; }

struct DeltaNetConfig {
  std::int64_t num_heads = 8;
  std::int64_t head_dim = 0;
  DeltaBeta beta = DeltaBeta::learned;
  double beta_value = 0.9;
  bool negative_eigenvalues = false;
  std::int64_t conv_size = 0;
  bool output_norm = false;
  bool faithful = false;

  static constexpr auto fields() {
    using C = DeltaNetConfig;
    return std::tuple{
        field("num_heads", &C::num_heads, "heads", {.min = 1, .max = 1 << 12}),
        field("head_dim", &C::head_dim, "features per head; 0 = hidden_size / num_heads", {.min = 0, .max = 1 << 12}),
        field("beta", &C::beta, "share of the difference that is written: constant, or learned for each head"),
        field("beta_value", &C::beta_value, "the constant", {.min = 0, .max = 2}),
        field("negative_eigenvalues", &C::negative_eigenvalues, "learned shares reach from 0 to 2, not only to 1"),
        field("conv_size", &C::conv_size,
              "positions that q, k and v of each are mixed from first; 0 = none, 4 is usual", {.min = 0, .max = 16}),
        field("output_norm", &C::output_norm, "scale each head's result to unit root mean square, with a learned gain"),
        field("faithful", &C::faithful, "what the BSBR library 0.1.2 computes, position by position"),
    };
  }

  AttentionPlan plan(const MixerContext& context) const;

  void adapt_defaults(const Json& given);
  // Throw UsageError; see MixerEntry.
  void validate(std::string_view path) const;
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const { return {}; }
};

/// The memory of a delta_net mixer, f32 (f64 in an f64 model).
class DeltaNetState : public MixerState {
 public:
  DeltaNetState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, Tensor memory, ConvolutionTails tails);
  std::int64_t bytes() const override;

  /// S [B,H,D,D], keys along the third axis.
  const Tensor& memory() const { return memory_; }
  void replace(Tensor memory) { memory_ = std::move(memory); }
  ConvolutionTails& tails() { return tails_; }

 private:
  Tensor memory_;
  ConvolutionTails tails_;
};

/// Parameters attn.{q,k,v,o}_proj, where asked {q,k,v}_conv and, where β is learned, b_proj [H,C], where asked
/// o_norm.weight. Dropout acts on the
/// result.
class DeltaNetMixer : public Mixer {
 public:
  DeltaNetMixer(const DeltaNetConfig& config, const MixerContext& context, Initializer& init);

  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  /// The result for x and its heads, whose rows are real where `mask` (or undefined) says so; `memory` becomes the one
  /// after x.
  Tensor run(const Tensor& x, const HeadTriple& heads, const Tensor& mask, Tensor& memory) const;
  Tensor beta(const Tensor& x, DType dtype) const;

  DeltaNetConfig config_;
  MixerContext context_;
  Attention attn_;
  ConvolvedHeads heads_;
  std::unique_ptr<Linear> b_proj_;    // null where β is constant
  std::unique_ptr<HeadNorm> o_norm_;  // null unless asked for
  Dropout dropout_;
};

}  // namespace sq
