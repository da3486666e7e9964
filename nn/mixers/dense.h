// nn/mixers/dense.h: softmax attention over all positions.
#pragma once

#include "nn/init.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/dense_config.h"
#include "nn/mixers/mixer.h"

namespace sq {

/// Position t sees positions 0 … t (causal) or all (Vaswani et al. 2017), with grouped key/value heads. Parameters
/// attn.{q,k,v,o}_proj. The decoding state holds keys and values of all positions.
class DenseMixer : public Mixer {
 public:
  DenseMixer(const DenseConfig& config, const MixerContext& context, Initializer& init);

  bool can_step() const override { return config_.causal; }
  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  DenseConfig config_;
  MixerContext context_;
  Attention attn_;
};

}  // namespace sq
