// nn/mixers/sliding_window.h: softmax attention over the nearest positions.
//
//   o_t = Σ_{j=max(0,t-w)}^{t} a_tj v_j,   a_t = softmax_j(q_t·k_j / √D)
//
// Position t sees itself and the w positions before it, w+1 in all (Beltagy et al. 2020, Longformer, section 3.1, one
// side of it; Jiang et al. 2023, Mistral 7B). Each query tile touches the key tiles of its band only.
//
// Cost for T positions: time O(T·w·C), memory O(T·C), state w+1 keys and values whatever the length: O(w·C) work and no
// growth for each further token. Information travels w positions a layer, so L layers reach back L·w at most and
// nothing farther back can be recalled exactly. Take it for text whose dependencies are short, as the cheap layers of a
// hybrid beside a few layers with a long memory, and where a decoding state must not grow.
#pragma once

#include "nn/fields.h"
#include "nn/init.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/mixer.h"

namespace sq {

struct SlidingWindowConfig {
  std::int64_t num_heads = 8;
  std::int64_t num_kv_heads = 8;
  std::int64_t head_dim = 0;
  std::int64_t window = 128;

  static constexpr auto fields() {
    using C = SlidingWindowConfig;
    return std::tuple{
        field("num_heads", &C::num_heads, "query heads", {.min = 1, .max = 1 << 12}),
        field("num_kv_heads", &C::num_kv_heads,
              "key/value heads; num_heads must be a multiple; where left out, as many", {.min = 1, .max = 1 << 12}),
        field("head_dim", &C::head_dim, "features per head; 0 = hidden_size / num_heads", {.min = 0, .max = 1 << 12}),
        field("window", &C::window, "positions before its own that a position sees", {.min = 0, .max = 1 << 30}),
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

/// Parameters attn.{q,k,v,o}_proj. The decoding state is a ring: position p in slot p mod (w+1).
class SlidingWindowMixer : public Mixer {
 public:
  SlidingWindowMixer(const SlidingWindowConfig& config, const MixerContext& context, Initializer& init);

  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  SlidingWindowConfig config_;
  MixerContext context_;
  Attention attn_;
};

}  // namespace sq
