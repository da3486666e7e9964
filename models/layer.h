// models/layer.h: one layer of the language model: a mixer and a feed-forward, each wired into the residual stream.
#pragma once

#include "models/config.h"
#include "nn/mixers/mixer.h"
#include "nn/residuals/residual.h"

#include <memory>

namespace sq {

/// streams ← r₁(streams, mixer);  streams ← r₂(streams, feed_forward).   With pre_norm:
///   x ← x + mixer(ln_1 x);  x ← x + ffn(ln_2 x).
/// Parameters: ln_1.*, the mixer's own names, ln_2.*, ffn.*.
class Layer : public Module {
 public:
  Layer(const ModelConfig& config, std::int64_t index, Initializer& init);

  /// streams as the residual's expand() gives them (pre_norm: [B,S,C]); the same shape comes back.
  Tensor forward(const Tensor& streams, const SequenceInfo& info);
  /// The next positions of every row; see Mixer::step.
  Tensor step(const Tensor& streams, MixerState& state, std::span<const std::int64_t> counts);

  Mixer& mixer() { return *mixer_; }
  const Mixer& mixer() const { return *mixer_; }
  const FeedForward& feed_forward() const { return feed_forward_; }
  /// How the model enters and leaves the streams.
  const Residual& residual() const { return *mixer_residual_; }

 private:
  Tensor feed(const Tensor& streams);

  std::unique_ptr<Residual> mixer_residual_;
  std::unique_ptr<Mixer> mixer_;
  std::unique_ptr<Residual> feed_forward_residual_;
  FeedForward feed_forward_;
};

}  // namespace sq
