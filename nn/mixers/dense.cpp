#include "nn/mixers/dense.h"

#include "nn/mixers/cached_attention.h"
#include "nn/mixers/registry.h"

#include <nlohmann/json.hpp>

namespace sq {
namespace {

struct DenseState : MixerState {
  DenseState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, const AttentionPlan& sizes,
             TensorOptions options)
      : MixerState(owner, batch, capacity), cache(batch, capacity, sizes, options) {}
  std::int64_t bytes() const override { return cache.bytes(); }

  KvCache cache;
};

AttentionOptions attention_options(const DenseConfig& config, const MixerContext& context) {
  return AttentionOptions::in_model(context, config.num_heads, config.num_kv_heads, config.plan(context).head_dim);
}

}  // namespace

DenseMixer::DenseMixer(const DenseConfig& config, const MixerContext& context, Initializer& init)
    : config_(config), context_(context), attn_(attention_options(config, context), init) {
  add_module("attn", attn_);
}

Tensor DenseMixer::mix(const Tensor& x, const Padding& padding) {
  // Under the causal mask no real position sees padding that stands at the end.
  const bool ends = !config_.causal && !padding.lengths.empty();
  return attn_.over_all(x, {.causal = config_.causal, .lengths = ends ? index_tensor(padding.lengths) : Tensor()},
                        padding.mask);
}

std::unique_ptr<MixerState> DenseMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  require(can_step(), "dense", "attention that is not causal cannot continue a sequence; set causal to true");
  return std::make_unique<DenseState>(*this, batch, capacity, attn_.sizes(), attn_.tensor_options());
}

Tensor DenseMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  KvCache& cache = static_cast<DenseState&>(state).cache;
  const NewRows rows({state.lengths(), counts}, x.size(1), cache.slots());
  cache.put(attn_.rotate(attn_.keys(x), rows.positions), attn_.values(x), rows.places);
  return attn_.output(
      cached_attention(attn_.rotate(attn_.queries(x), rows.positions), cache, {state.lengths(), counts}));
}

extern const MixerEntry dense_entry;
const MixerEntry dense_entry = mixer_entry<DenseConfig, DenseMixer>(
    "dense", "every position attends to every earlier one; grouped key/value heads",
    "Vaswani et al. 2017, Attention Is All You Need; Ainslie et al. 2023, GQA");

}  // namespace sq
