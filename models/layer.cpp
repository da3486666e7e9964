#include "models/layer.h"

#include "nn/mixers/registry.h"

namespace sq {
namespace {

std::unique_ptr<Residual> make_residual(const ModelConfig& config, std::int64_t index, Initializer& init) {
  const ResidualContext context{config.hidden_size, config.num_layers, index, config.norm.options()};
  return find_residual(config.residual.type).make(config.residual.options, context, init);
}

std::unique_ptr<Mixer> make_mixer(const ModelConfig& config, std::int64_t index, Initializer& init) {
  const MixerConfig& mixer = config.mixer_of(index);
  return find_mixer(mixer.type).make(mixer.options, config.context(index), init);
}

}  // namespace

Layer::Layer(const ModelConfig& config, std::int64_t index, Initializer& init)
    : mixer_residual_(make_residual(config, index, init)),
      mixer_(make_mixer(config, index, init)),
      feed_forward_residual_(make_residual(config, index, init)),
      feed_forward_(config.hidden_size, config.feed_forward.options(config.dropout), init) {
  add_module("ln_1", *mixer_residual_);
  add_module("", *mixer_);  // its parts carry their own names: attn, global_attn, …
  add_module("ln_2", *feed_forward_residual_);
  add_module("ffn", feed_forward_);
}

Tensor Layer::feed(const Tensor& streams) {
  return feed_forward_residual_->apply(streams, [&](const Tensor& x) { return feed_forward_.forward(x); });
}

Tensor Layer::forward(const Tensor& streams, const SequenceInfo& info) {
  return feed(mixer_residual_->apply(streams, [&](const Tensor& x) { return mixer_->forward(x, info); }));
}

Tensor Layer::step(const Tensor& streams, MixerState& state, std::span<const std::int64_t> counts) {
  return feed(mixer_residual_->apply(streams, [&](const Tensor& x) { return mixer_->step(x, state, counts); }));
}

}  // namespace sq
