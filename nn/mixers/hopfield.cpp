#include "nn/mixers/hopfield.h"

#include "nn/mixers/cached_attention.h"
#include "nn/mixers/masked_keys.h"
#include "nn/mixers/registry.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace sq {
namespace {

struct HopfieldState : MixerState {
  HopfieldState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, const Attention& attn)
      : MixerState(owner, batch, capacity), cache(batch, capacity, attn.sizes(), attn.tensor_options()) {}
  std::int64_t bytes() const override { return cache.bytes(); }

  KvCache cache;
};

}  // namespace

AttentionPlan HopfieldConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, num_heads, num_kv_heads, head_size(head_dim, context.hidden_size, num_heads)};
}

double HopfieldConfig::scale(const MixerContext& context) const {
  return 1 / (temperature * std::sqrt(static_cast<double>(plan(context).head_dim)));
}

void HopfieldConfig::adapt_defaults(const Json& given) { default_kv_heads(given, num_kv_heads); }

void HopfieldConfig::validate(std::string_view path) const { check_head_groups(num_heads, num_kv_heads, path); }

void HopfieldConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
  check_rotary(plan(context).head_dim, context.rope, path);
}

NamedShapes HopfieldConfig::parameters(const MixerContext& context) const {
  return plan(context).parameters("attn", context.bias);
}

/// R(R+1)/2 pairs in each of the r+1 rounds.
Cost HopfieldConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens), pairs = rows * (rows + 1) / 2;
  return {.parameters = count_elements(parameters(context)),
          .forward_flops = a.query_flops(rows) + a.key_value_flops(rows) + a.output_flops(rows) +
                           static_cast<double>(iterations + 1) * a.pair_flops(pairs),
          .state_bytes = a.cache_bytes(rows)};
}

HopfieldMixer::HopfieldMixer(const HopfieldConfig& config, const MixerContext& context, Initializer& init)
    : config_(config),
      context_(context),
      attn_(AttentionOptions::in_model(context, config.num_heads, config.num_kv_heads, config.plan(context).head_dim),
            init) {
  add_module("attn", attn_);
}

Tensor HopfieldMixer::mix(const Tensor& x, const Padding& padding) {
  const Tensor positions = Tensor::arange(x.size(1));
  const Tensor k = attn_.rotate(attn_.keys(x), positions), v = attn_.values(x);
  const double scale = config_.scale(context_);
  const auto read = [&](const Tensor& queries, const Tensor& from, double dropout) {
    ScoredRows rows{.q = queries, .k = k, .scale = scale};
    if (padding.mask.defined()) rows = without_masked_keys(rows, padding.mask);
    return dense_attention(rows.q, rows.k, from, {.scale = scale, .dropout = dropout});
  };
  Tensor xi = attn_.rotate(attn_.queries(x), positions);
  for (std::int64_t round = 0; round < config_.iterations; ++round) xi = read(xi, k, 0);
  return attn_.output(read(xi, v, attn_.dropout_rate()));
}

std::unique_ptr<MixerState> HopfieldMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  return std::make_unique<HopfieldState>(*this, batch, capacity, attn_);
}

Tensor HopfieldMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  KvCache& cache = static_cast<HopfieldState&>(state).cache;
  const QueryPlaces places{state.lengths(), counts};
  const NewRows rows(places, x.size(1), cache.slots());
  cache.put(attn_.rotate(attn_.keys(x), rows.positions), attn_.values(x), rows.places);
  const double scale = config_.scale(context_);
  Tensor xi = attn_.rotate(attn_.queries(x), rows.positions);
  for (std::int64_t round = 0; round < config_.iterations; ++round)
    xi = cached_attention(xi, cache, places, scale, Averaged::keys);
  return attn_.output(cached_attention(xi, cache, places, scale));
}

extern const MixerEntry hopfield_entry;
const MixerEntry hopfield_entry = mixer_entry<HopfieldConfig, HopfieldMixer>(
    "hopfield", "attention with a temperature whose queries may settle among the keys before they read",
    "Ramsauer et al. 2021, Hopfield Networks is All You Need");

}  // namespace sq
