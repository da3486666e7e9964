#include "nn/mixers/halo_s.h"

#include "nn/mixers/registry.h"
#include "nn/mixers/summary_layout.h"
#include "ops/concat.h"
#include "ops/gather.h"
#include "ops/view.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>

namespace sq {
namespace {

constexpr std::size_t kPlansKept = 4;
constexpr std::int32_t kEmpty = -1;

AttentionOptions attention_options(const HaloSConfig& config, const MixerContext& context) {
  config.check(context, "halo_s");
  require(context.globals == config.global_rows(), "halo_s",
          "the model carries {} global rows in chunks of {}, the mixer wants {} in chunks of {}", context.globals.count,
          context.globals.chunk, config.global_rows().count, config.global_rows().chunk);
  return AttentionOptions::in_model(context, config.num_heads, config.num_kv_heads,
                                    context.hidden_size / config.num_heads);
}

Tensor to_tensor(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

}  // namespace

HaloSMixer::HaloSMixer(const HaloSConfig& config, const MixerContext& context, Initializer& init)
    : config_(config), context_(context), attn_(attention_options(config, context), init) {
  add_module("attn", attn_);
  if (config.num_globals == 0) return;
  global_attn_ = std::make_unique<Attention>(attention_options(config, context), init);
  add_module("global_attn", *global_attn_);
}

bool HaloSMixer::is_global(std::int64_t row) const {
  return config_.globals_are_summaries() ? SummaryLayout(config_).is_summary(row) : row < config_.num_globals;
}

std::int64_t HaloSMixer::global_count(std::int64_t rows) const {
  const std::int64_t globals = config_.num_globals;
  if (!config_.globals_are_summaries()) return std::min(rows, globals);
  const std::int64_t period = globals + config_.local_window;
  return rows / period * globals + std::min(rows % period, globals);
}

Tensor HaloSMixer::positions(std::span<const std::int64_t> rows, bool keys) const {
  std::vector<std::int64_t> positions;
  for (const std::int64_t row : rows) {
    if (row < 0 || (keys && !config_.rotate_globals && is_global(row)))
      positions.push_back(0);  // no rotation
    else
      positions.push_back(config_.globals_are_summaries() ? SummaryLayout(config_).position_of_row(row) : row);
  }
  return to_tensor(positions);
}

const HaloSMixer::Plan& HaloSMixer::plan(std::int64_t length) {
  const auto found =
      std::find_if(plans_.begin(), plans_.end(), [&](const Plan& plan) { return plan.length == length; });
  if (found != plans_.end()) {
    std::rotate(plans_.begin(), found, found + 1);
  } else {
    plans_.push_front(make_plan(length));
    if (plans_.size() > kPlansKept) plans_.pop_back();
  }
  return plans_.front();
}

NeighborTable HaloSMixer::token_table(std::int64_t length) const {
  NeighborTable table(0, length, config_.num_neighbors());
  if (length == global_count(length)) return table;
  if (config_.globals_are_summaries()) {
    const SummaryLayout layout(config_);
    const NeighborTable tokens =
        summary_token_graph(0, length - global_count(length), context_.layer, config_, context_.max_seq_len);
    for (std::int64_t t = 0; t < tokens.rows; ++t)
      std::copy(tokens.row(t).begin(), tokens.row(t).end(), table.row(layout.row_of_token(t)).begin());
    return table;
  }
  if (config_.graph == HaloGraph::faithful) {
    table = faithful_graph(length, context_.layer, config_);
    hide_future(table);
    if (config_.duplicates == HaloDuplicates::once) hide_repeats(table);
  } else {
    table = causal_graph(0, length, context_.layer, config_, context_.max_seq_len);
  }
  for (std::int64_t g = 0; g < config_.num_globals; ++g) std::fill(table.row(g).begin(), table.row(g).end(), kEmpty);
  return table;
}

NeighborTable HaloSMixer::token_neighbors(std::int64_t row) const {
  if (!config_.globals_are_summaries()) return causal_graph(row, 1, context_.layer, config_, context_.max_seq_len);
  return summary_token_graph(SummaryLayout(config_).token_of_row(row), 1, context_.layer, config_,
                             context_.max_seq_len);
}

HaloSMixer::Plan HaloSMixer::make_plan(std::int64_t length) const {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(length));
  std::iota(rows.begin(), rows.end(), 0);
  Plan plan;
  plan.length = length;
  plan.tokens = {.list = std::make_shared<NeighborList>(make_neighbor_list(to_tensor(token_table(length)), {}, length)),
                 .query_positions = positions(rows, false),
                 .key_positions = positions(rows, true),
                 .plain_columns = plain(config_.num_globals),
                 .causal = false};  // the table has no later rows
  if (config_.globals_are_summaries() && computes_globals()) plan_summaries(plan);
  return plan;
}

void HaloSMixer::plan_summaries(Plan& plan) const {
  const SummaryLayout layout(config_);
  const std::int64_t count = global_count(plan.length);
  const std::int64_t chunks = (count + layout.globals - 1) / layout.globals;
  std::vector<std::int64_t> own(static_cast<std::size_t>(count)), order(static_cast<std::size_t>(plan.length));
  std::iota(order.begin(), order.end(), count);
  for (std::int64_t s = 0; s < count; ++s) {
    const std::int64_t row = layout.row_of_summary(s / layout.globals, s % layout.globals);
    own[static_cast<std::size_t>(s)] = row;
    order[static_cast<std::size_t>(row)] = s;
  }
  plan.summary_rows = to_tensor(own);
  plan.order = to_tensor(order);
  plan.summaries_read = own.back() + 1;

  std::vector<std::int64_t> read(static_cast<std::size_t>(plan.summaries_read));
  std::iota(read.begin(), read.end(), 0);
  // The last chunk may have been cut off inside its summaries.
  const Tensor table = slice(to_tensor(summary_global_graph(0, chunks, config_)), 0, 0, count);
  plan.summaries = {
      .list = std::make_shared<NeighborList>(make_neighbor_list(table, plan.summary_rows, plan.summaries_read)),
      .query_positions = positions(own, false),
      .key_positions = positions(read, true),
      .plain_columns = plain(chunks * layout.globals),
      .causal = false};
}

Tensor HaloSMixer::mix(const Tensor& x, const Padding& padding) {
  require(!padding.mask.defined(), "halo_s",
          "the mask has padding in front or gaps; neighbors are counted from the first row, so give lengths instead");
  const std::span<const std::int64_t> lengths = padding.lengths;
  if (lengths.empty() || config_.graph != HaloGraph::faithful) return mix_alone(x);
  std::vector<Tensor> rows;  // the faithful lists of a row depend on its own length
  for (std::int64_t b = 0; b < x.size(0); ++b) {
    const std::int64_t length = lengths[static_cast<std::size_t>(b)];
    const Tensor row = slice(slice(x, 0, b, b + 1), 1, 0, length);
    rows.push_back(pad(length > 0 ? mix_alone(row) : row, 1, 0, x.size(1) - length));
  }
  return concat(rows, 0);
}

Tensor HaloSMixer::mix_alone(const Tensor& x) {
  const std::int64_t length = x.size(1);
  const Plan& plan = this->plan(length);
  const Tensor y = attn_.over_neighbors(x, x, plan.tokens);
  if (!computes_globals()) return y;
  if (config_.globals_are_summaries()) return with_summaries(x, y, plan);
  const std::int64_t count = global_count(length);
  const Tensor globals = slice(x, 1, 0, count);
  return concat(
      {global_attn_->over_sequence(globals, globals, true, config_.rotate_globals), slice(y, 1, count, length)}, 1);
}

Tensor HaloSMixer::with_summaries(const Tensor& x, const Tensor& y, const Plan& plan) const {
  const Tensor summaries = global_attn_->over_neighbors(index_select(x, 1, plan.summary_rows),
                                                        slice(x, 1, 0, plan.summaries_read), plan.summaries);
  return index_select(concat({summaries, y}, 1), 1, plan.order);
}

extern const MixerEntry halo_s_entry;
const MixerEntry halo_s_entry = mixer_entry<HaloSConfig, HaloSMixer>(
    "halo_s", "a fixed list of neighbors per position: globals, window, dilated, random; cost linear in length",
    "BUEORM, HALO-S (pyhalos)");

}  // namespace sq
