#include "nn/mixers/sliding_window.h"

#include "nn/mixers/cached_attention.h"
#include "nn/mixers/registry.h"
#include "ops/concat.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

struct SlidingWindowState : MixerState {
  SlidingWindowState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, std::int64_t slots,
                     const Attention& attn)
      : MixerState(owner, batch, capacity), ring(batch, slots, attn.sizes(), attn.tensor_options()) {}
  std::int64_t bytes() const override { return ring.bytes(); }

  KvCache ring;
};

/// Positions begin … end-1 out of a ring [B',Hkv,slots,D], followed by `rows` [B',Hkv,t,D].
Tensor unrolled(const Tensor& ring, std::int64_t begin, std::int64_t end, const Tensor& rows) {
  const std::int64_t slots = ring.size(2), first = begin % slots, ahead = std::min(end - begin, slots - first);
  std::vector<Tensor> parts;
  if (ahead > 0) parts.push_back(slice(ring, 2, first, first + ahead));
  if (end - begin > ahead) parts.push_back(slice(ring, 2, 0, end - begin - ahead));
  if (parts.empty()) return rows;
  parts.push_back(rows);
  return concat(parts, 2);
}

/// The next rows of some sequences, not yet in the ring.
struct Heads {
  Tensor q, k, v;

  Heads part(std::int64_t row, std::int64_t rows, std::int64_t count) const {
    const auto cut = [&](const Tensor& x) { return slice(slice(x, 0, row, row + rows), 2, 0, count); };
    return {cut(q), cut(k), cut(v)};
  }
};

/// Attention of `heads`, which follow position seen-1 of batch rows row …, over the ring and themselves.
Tensor attend(const Heads& heads, const KvCache& ring, std::int64_t row, std::int64_t seen, std::int64_t window) {
  const std::int64_t end = row + heads.q.size(0), first = seen - std::min(seen, window);
  return dense_attention(heads.q, unrolled(ring.keys(row, end, ring.slots()), first, seen, heads.k),
                         unrolled(ring.values(row, end, ring.slots()), first, seen, heads.v), {.window = window + 1});
}

/// The same where every sequence has its own length; zeros at queries that are not real.
Tensor attend_each(const Heads& heads, const KvCache& ring, const QueryPlaces& places, std::int64_t window) {
  const Shape& shape = heads.q.shape();
  std::vector<Tensor> rows;
  for (std::int64_t b = 0; b < shape[0]; ++b) {
    const std::int64_t count = places.counts[static_cast<std::size_t>(b)];
    rows.push_back(count == 0
                       ? Tensor::zeros({1, shape[1], shape[2], shape[3]}, heads.q.options())
                       : pad(attend(heads.part(b, 1, count), ring, b, places.seen[static_cast<std::size_t>(b)], window),
                             2, 0, shape[2] - count));
  }
  return concat(rows, 0);
}

}  // namespace

AttentionPlan SlidingWindowConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, num_heads, num_kv_heads, head_size(head_dim, context.hidden_size, num_heads)};
}

void SlidingWindowConfig::adapt_defaults(const Json& given) { default_kv_heads(given, num_kv_heads); }

void SlidingWindowConfig::validate(std::string_view path) const { check_head_groups(num_heads, num_kv_heads, path); }

void SlidingWindowConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
  check_rotary(plan(context).head_dim, context.rope, path);
}

NamedShapes SlidingWindowConfig::parameters(const MixerContext& context) const {
  return plan(context).parameters("attn", context.bias);
}

/// The first w+1 of R rows see 1, 2, …, w+1 rows, the others w+1 each.
Cost SlidingWindowConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens), most = std::min(rows, window + 1);
  const std::int64_t pairs = most * (most + 1) / 2 + (rows - most) * most;
  return {.parameters = count_elements(parameters(context)),
          .forward_flops = a.query_flops(rows) + a.key_value_flops(rows) + a.pair_flops(pairs) + a.output_flops(rows),
          .state_bytes = a.cache_bytes(most)};
}

SlidingWindowMixer::SlidingWindowMixer(const SlidingWindowConfig& config, const MixerContext& context,
                                       Initializer& init)
    : config_(config),
      context_(context),
      attn_(AttentionOptions::in_model(context, config.num_heads, config.num_kv_heads, config.plan(context).head_dim),
            init) {
  add_module("attn", attn_);
}

Tensor SlidingWindowMixer::mix(const Tensor& x, const Padding& padding) {
  return attn_.over_all(x, {.causal = true, .window = config_.window + 1}, padding.mask);
}

std::unique_ptr<MixerState> SlidingWindowMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  return std::make_unique<SlidingWindowState>(*this, batch, capacity, std::min(capacity, config_.window + 1), attn_);
}

Tensor SlidingWindowMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  KvCache& ring = static_cast<SlidingWindowState&>(state).ring;
  const QueryPlaces places{state.lengths(), counts};
  const NewRows rows(places, x.size(1), ring.slots());
  const Heads heads{attn_.rotate(attn_.queries(x), rows.positions), attn_.rotate(attn_.keys(x), rows.positions),
                    attn_.values(x)};
  if (x.size(1) == 1) {  // the ring holds all that the query sees, itself included; the order of keys is no matter
    ring.put(heads.k, heads.v, rows.places);
    std::vector<std::int64_t> seen;
    for (std::size_t b = 0; b < counts.size(); ++b) seen.push_back(std::min(places.seen[b] + counts[b], ring.slots()));
    const std::int64_t batch = x.size(0), most = std::max<std::int64_t>(1, *std::max_element(seen.begin(), seen.end()));
    return attn_.output(dense_attention(heads.q, ring.keys(0, batch, most), ring.values(0, batch, most),
                                        {.causal = false, .lengths = index_tensor(seen)}));
  }
  const Tensor o = places.together(x.size(1)) ? attend(heads, ring, 0, places.seen[0], config_.window)
                                              : attend_each(heads, ring, places, config_.window);
  ring.put(heads.k, heads.v, rows.places);
  return attn_.output(o);
}

extern const MixerEntry sliding_window_entry;
const MixerEntry sliding_window_entry = mixer_entry<SlidingWindowConfig, SlidingWindowMixer>(
    "sliding_window", "every position attends to itself and the `window` positions before it",
    "Beltagy et al. 2020, Longformer; Jiang et al. 2023, Mistral 7B");

}  // namespace sq
