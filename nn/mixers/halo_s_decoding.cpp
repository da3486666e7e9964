// nn/mixers/halo_s_decoding.cpp: continuing a sequence. The causal lists of a row never change, so that each new row
// reads its K neighbors from a cache, whatever the length.
#include "nn/mixers/halo_s.h"
#include "nn/mixers/kv_cache.h"
#include "nn/mixers/summary_layout.h"
#include "ops/concat.h"
#include "ops/gather.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>

namespace sq {
namespace {

Tensor to_tensor(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

/// Attention of rows x [1,N,C] over the slots of a cache that `table` lists for them.
Tensor read(const Attention& attention, const Tensor& x, const KvCache& cache, const NeighborTable& table,
            const Tensor& positions, std::int64_t plain_columns) {
  const Tensor keys = cache.all_keys();
  const Tensor own = Tensor::zeros({table.rows}, {.dtype = DType::i64});  // without meaning where nothing is masked
  const auto list = std::make_shared<NeighborList>(make_neighbor_list(to_tensor(table), own, keys.size(2)));
  return attention.over_neighbors(x, keys, cache.all_values(),
                                  {.list = list,
                                   .query_positions = positions,
                                   .key_positions = {},
                                   .plain_columns = plain_columns,
                                   .causal = false});
}

}  // namespace

struct HaloSMixer::State : MixerState {
  State(const Mixer& owner, std::int64_t batch, std::int64_t capacity, const Attention& attn)
      : MixerState(owner, batch, capacity), cache(batch, capacity, attn.sizes(), attn.tensor_options()) {}
  std::int64_t bytes() const override { return cache.bytes() + (globals ? globals->bytes() : 0); }

  /// Which sequence of the batch the n-th of the flattened rows belongs to.
  std::int64_t sequence_of(std::int64_t n, std::span<const std::int64_t> rows) const {
    return n / static_cast<std::int64_t>(rows.size() / lengths().size());
  }
  /// Where `globals` keeps a token.
  std::int64_t token_slot(std::int64_t token, const HaloSConfig& config) const {
    return global_slots + token % (2 * config.local_window);
  }

  KvCache cache;                     // attn: row r in slot r
  std::unique_ptr<KvCache> globals;  // global_attn: the s-th global row in slot s; token t behind them in t mod 2w
  std::int64_t global_slots = 0;     // slots for global rows
};

std::unique_ptr<MixerState> HaloSMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  require(can_step(), "halo_s",
          "in the faithful graph every neighbor list depends on the total length, so nothing can be kept; recompute "
          "the whole sequence for each new token, or use the causal graph");
  auto state = std::make_unique<State>(*this, batch, capacity, attn_);
  if (!computes_globals()) return state;
  state->global_slots = global_count(capacity);
  const std::int64_t tokens =
      config_.globals_are_summaries() ? std::min(capacity - state->global_slots, 2 * config_.local_window) : 0;
  state->globals = std::make_unique<KvCache>(batch, state->global_slots + tokens, global_attn_->sizes(),
                                             global_attn_->tensor_options());
  return state;
}

Tensor HaloSMixer::advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) {
  const std::int64_t batch = x.size(0), width = x.size(2);
  // A summary row must find the tokens of the chunk before it in the cache, which holds two chunks.
  const std::int64_t most = config_.globals_are_summaries() ? config_.num_globals + config_.local_window : x.size(1);
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0; begin < x.size(1); begin += most) {
    const std::int64_t end = std::min(x.size(1), begin + most);
    std::vector<std::int64_t> rows;
    for (std::size_t b = 0; b < counts.size(); ++b)
      for (std::int64_t i = begin; i < end; ++i) rows.push_back(i < counts[b] ? state.lengths()[b] + i : -1);
    const Tensor part = reshape(slice(x, 1, begin, end), {1, batch * (end - begin), width});
    parts.push_back(reshape(advance_rows(part, static_cast<State&>(state), rows), {batch, end - begin, width}));
  }
  return parts.size() == 1 ? parts.front() : concat(parts, 1);
}

Tensor HaloSMixer::advance_rows(const Tensor& x, State& state, std::span<const std::int64_t> rows) const {
  const std::int64_t slots = state.cache.slots();
  NeighborTable table(0, x.size(1), config_.num_neighbors());
  std::vector<std::int64_t> places;
  for (std::int64_t n = 0; n < x.size(1); ++n) {
    const std::int64_t row = rows[static_cast<std::size_t>(n)], first_slot = state.sequence_of(n, rows) * slots;
    places.push_back(row < 0 ? -1 : first_slot + row);
    if (row < 0 || is_global(row)) continue;
    const NeighborTable one = token_neighbors(row);
    std::transform(one.index.begin(), one.index.end(), table.row(n).begin(),
                   [&](std::int32_t j) { return j < 0 ? j : static_cast<std::int32_t>(first_slot + j); });
  }
  state.cache.put(attn_.rotate(attn_.keys(x), positions(rows, true)), attn_.values(x), places);
  Tensor y = read(attn_, x, state.cache, table, positions(rows, false), plain(config_.num_globals));
  if (state.globals) advance_globals(x, state, rows, y);
  return y;
}

void HaloSMixer::advance_globals(const Tensor& x, State& state, std::span<const std::int64_t> rows, Tensor& y) const {
  const bool summaries = config_.globals_are_summaries();
  std::vector<std::int64_t> kept, kept_rows, places, asking, asking_rows;  // what is remembered, and who reads
  for (std::int64_t n = 0; n < x.size(1); ++n) {
    const std::int64_t row = rows[static_cast<std::size_t>(n)];
    if (row < 0 || (!summaries && !is_global(row))) continue;
    const std::int64_t before = global_count(row);
    kept.push_back(n);
    kept_rows.push_back(row);
    places.push_back(state.sequence_of(n, rows) * state.globals->slots() +
                     (is_global(row) ? before : state.token_slot(row - before, config_)));
    if (!is_global(row)) continue;
    asking.push_back(n);
    asking_rows.push_back(row);
  }
  if (kept.empty()) return;
  const Tensor keep = index_select(x, 1, to_tensor(kept));
  state.globals->put(global_attn_->rotate(global_attn_->keys(keep), positions(kept_rows, true)),
                     global_attn_->values(keep), places);
  if (asking.empty()) return;

  const std::int64_t columns = global_count(*std::max_element(asking_rows.begin(), asking_rows.end())) + 1;
  NeighborTable table(0, static_cast<std::int64_t>(asking.size()), columns + (summaries ? config_.local_window : 0));
  for (std::int64_t a = 0; a < table.rows; ++a) {
    const std::int64_t row = asking_rows[static_cast<std::size_t>(a)];
    const std::int64_t first_slot =
        state.sequence_of(asking[static_cast<std::size_t>(a)], rows) * state.globals->slots();
    fill_global_row(table.row(a), row, columns, first_slot, state);
  }
  const Tensor results = read(*global_attn_, index_select(x, 1, to_tensor(asking)), *state.globals, table,
                              positions(asking_rows, false), plain(columns));
  for (std::int64_t a = 0; a < table.rows; ++a) {
    Tensor target = slice(y, 1, asking[static_cast<std::size_t>(a)], asking[static_cast<std::size_t>(a)] + 1);
    copy_(target, slice(results, 1, a, a + 1));
  }
}

/// Slots that a global row reads: `columns` for global rows up to itself, then those of the chunk before its own.
void HaloSMixer::fill_global_row(std::span<std::int32_t> out, std::int64_t row, std::int64_t columns,
                                 std::int64_t first_slot, const State& state) const {
  const std::int64_t before = global_count(row), first_token = row - before;
  for (std::int64_t s = 0; s <= before; ++s)
    out[static_cast<std::size_t>(s)] = static_cast<std::int32_t>(first_slot + s);
  if (!config_.globals_are_summaries() || first_token == 0) return;
  for (std::int64_t t = 0; t < config_.local_window; ++t)
    out[static_cast<std::size_t>(columns + t)] =
        static_cast<std::int32_t>(first_slot + state.token_slot(first_token - config_.local_window + t, config_));
}

}  // namespace sq
