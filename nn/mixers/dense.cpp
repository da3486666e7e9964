#include "nn/mixers/dense.h"

#include "nn/mixers/kv_cache.h"
#include "nn/mixers/registry.h"
#include "ops/dense_attention.h"
#include "tensor/memory.h"

#include <nlohmann/json.hpp>

#include <algorithm>

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
  return AttentionOptions::in_model(context, config.num_heads, config.num_kv_heads,
                                    config.head_size(context.hidden_size));
}

Tensor to_tensor(std::span<const std::int64_t> values) {
  return Tensor::from(std::vector<std::int64_t>(values.begin(), values.end()),
                      {static_cast<std::int64_t>(values.size())});
}

/// q [B,H,t,D] over rows of the cache; row b's first query stands at seen[b] and its first counts[b] queries are real.
Tensor attend(const Tensor& q, const KvCache& cache, std::span<const std::int64_t> seen,
              std::span<const std::int64_t> counts) {
  const std::int64_t batch = q.size(0), t = q.size(2);
  const auto same = [](std::span<const std::int64_t> values, std::int64_t value) {
    return std::all_of(values.begin(), values.end(), [&](std::int64_t v) { return v == value; });
  };
  if (same(seen, seen[0]) && same(counts, t)) {
    const std::int64_t end = seen[0] + t;
    return dense_attention(q, cache.keys(0, batch, end), cache.values(0, batch, end), {});
  }
  if (t == 1) {  // the rows' lengths are mask enough
    std::vector<std::int64_t> lengths(seen.begin(), seen.end());
    for (std::size_t b = 0; b < lengths.size(); ++b) lengths[b] += counts[b];
    const std::int64_t end = *std::max_element(lengths.begin(), lengths.end());
    return dense_attention(q, cache.keys(0, batch, end), cache.values(0, batch, end),
                           {.causal = false, .lengths = to_tensor(lengths)});
  }
  Tensor o = Tensor::zeros({batch, t, q.size(1), q.size(3)}, q.options());
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t count = counts[static_cast<std::size_t>(b)];
    const std::int64_t end = seen[static_cast<std::size_t>(b)] + count;
    if (count == 0) continue;
    const Shape& from = q.strides();
    const Shape& to = o.strides();
    const Shape shape{1, q.size(1), count, q.size(3)};
    Tensor target = o.alias(shape, {to[0], to[2], to[1], to[3]}, b * to[0]);
    copy_(target, dense_attention(q.alias(shape, from, b * from[0]), cache.keys(b, b + 1, end),
                                  cache.values(b, b + 1, end), {}));
  }
  const Shape& s = o.strides();
  return o.alias(q.shape(), {s[0], s[2], s[1], s[3]}, 0);
}

}  // namespace

DenseMixer::DenseMixer(const DenseConfig& config, const MixerContext& context, Initializer& init)
    : config_(config), context_(context), attn_(attention_options(config, context), init) {
  add_module("attn", attn_);
}

Tensor DenseMixer::mix(const Tensor& x, const Padding& padding) {
  // Under the causal mask no real position sees padding that stands at the end.
  const bool ends = !config_.causal && !padding.lengths.empty();
  return attn_.over_all(x, {.causal = config_.causal, .lengths = ends ? to_tensor(padding.lengths) : Tensor()},
                        padding.mask);
}

std::unique_ptr<MixerState> DenseMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  require(can_step(), "dense", "attention that is not causal cannot continue a sequence; set causal to true");
  return std::make_unique<DenseState>(*this, batch, capacity, attn_.sizes(), attn_.tensor_options());
}

Tensor DenseMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  KvCache& cache = static_cast<DenseState&>(state).cache;
  const std::int64_t batch = x.size(0), t = x.size(1);
  std::vector<std::int64_t> positions, places;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < t; ++i) {
      const std::int64_t position = state.lengths()[static_cast<std::size_t>(b)] + i;
      positions.push_back(position);
      places.push_back(i < counts[static_cast<std::size_t>(b)] ? b * cache.slots() + position : -1);
    }
  const Tensor at = Tensor::from(positions, {batch, t});
  cache.put(attn_.rotate(attn_.keys(x), at), attn_.values(x), places);
  return attn_.output(attend(attn_.rotate(attn_.queries(x), at), cache, state.lengths(), counts));
}

extern const MixerEntry dense_entry;
const MixerEntry dense_entry = mixer_entry<DenseConfig, DenseMixer>(
    "dense", "every position attends to every earlier one; grouped key/value heads",
    "Vaswani et al. 2017, Attention Is All You Need; Ainslie et al. 2023, GQA");

}  // namespace sq
