// nn/mixers/hopfield.h: softmax attention with a temperature, its queries settled among the keys beforehand.
//
//   β = 1 / (T·√D),   ξ⁰_t = q_t,   ξˢ⁺¹_t = Σ_{j<=t} softmax_j(β ξˢ_t·k_j) k_j  for s = 0 … r-1,
//   o_t = Σ_{j<=t} softmax_j(β ξʳ_t·k_j) v_j
//
// The keys are patterns of a modern Hopfield network and ξ ← softmax(β ξ Kᵀ) K is its update rule: each round moves a
// query towards the stored pattern that it resembles most (Ramsauer et al. 2021, Hopfield Networks is All You Need, eq.
// 3; eq. 10 reads the values). r = 0 rounds and T = 1 is plain causal attention. A low temperature sharpens the choice,
// a high one averages. With rotary positions q and k are turned before, and ξ then is a mixture of turned keys.
//
// Cost for T positions: (r+1) times that of dense attention, time O(r·T²·C), memory O(T·C), state the keys and values
// of all positions. Take it where recall from noisy queries matters and the quadratic cost can be paid.
#pragma once

#include "nn/fields.h"
#include "nn/init.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/mixer.h"

namespace sq {

struct HopfieldConfig {
  std::int64_t num_heads = 8;
  std::int64_t num_kv_heads = 8;
  std::int64_t head_dim = 0;
  double temperature = 1;
  std::int64_t iterations = 0;

  static constexpr auto fields() {
    using C = HopfieldConfig;
    return std::tuple{
        field("num_heads", &C::num_heads, "query heads", {.min = 1, .max = 1 << 12}),
        field("num_kv_heads", &C::num_kv_heads,
              "key/value heads; num_heads must be a multiple; where left out, as many", {.min = 1, .max = 1 << 12}),
        field("head_dim", &C::head_dim, "features per head; 0 = hidden_size / num_heads", {.min = 0, .max = 1 << 12}),
        field("temperature", &C::temperature, "T: scores are divided by T times the root of head_dim",
              {.min = 0, .max = 1e4, .above_min = true}),
        field("iterations", &C::iterations, "rounds in which queries move among the keys before they read",
              {.min = 0, .max = 64}),
    };
  }

  AttentionPlan plan(const MixerContext& context) const;
  /// β.
  double scale(const MixerContext& context) const;

  void adapt_defaults(const Json& given);
  // Throw UsageError; see MixerEntry.
  void validate(std::string_view path) const;
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const { return {}; }
};

/// Parameters attn.{q,k,v,o}_proj. Dropout acts on the weights of the last round, those on the values.
class HopfieldMixer : public Mixer {
 public:
  HopfieldMixer(const HopfieldConfig& config, const MixerContext& context, Initializer& init);

  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  HopfieldConfig config_;
  MixerContext context_;
  Attention attn_;
};

}  // namespace sq
