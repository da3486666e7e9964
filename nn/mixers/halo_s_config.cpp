#include "nn/mixers/halo_s_config.h"

#include "nn/mixers/attention_plan.h"
#include "nn/mixers/pattern.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

AttentionPlan plan(const HaloSConfig& config, const MixerContext& context) {
  return {context.hidden_size, config.num_heads, config.num_kv_heads, context.hidden_size / config.num_heads};
}

/// (query, key) pairs of T token rows in the causal graph: globals, window, dilated at stride s, random. A random edge
/// that is left out because another column has its target is counted all the same.
std::int64_t causal_pairs(const HaloSConfig& config, std::int64_t stride, std::int64_t tokens) {
  const std::int64_t w = std::min(config.local_window, tokens);
  std::int64_t pairs = tokens * config.num_globals + w * (w + 1) / 2 + (tokens - w) * w;
  for (std::int64_t n = 1; n <= config.num_dilated(); ++n) pairs += std::max<std::int64_t>(0, tokens - n * stride);
  return pairs + (tokens - w) * config.num_random;
}

/// The same for the faithful graph, counted on its lists.
std::int64_t faithful_pairs(const HaloSConfig& config, std::int64_t layer, std::int64_t tokens) {
  NeighborTable list = faithful_graph(config.num_globals + tokens, layer, config);
  hide_future(list);
  if (config.duplicates == HaloDuplicates::once) hide_repeats(list);
  const auto tokens_begin = list.index.begin() + config.num_globals * list.columns;  // global rows attend elsewhere
  return std::count_if(tokens_begin, list.index.end(), [](std::int32_t j) { return j >= 0; });
}

/// (query, key) pairs of the global rows: each sees the global rows up to itself and, from the second chunk on, the
/// tokens of the chunk before.
std::int64_t global_pairs(const HaloSConfig& config, std::int64_t chunks) {
  const std::int64_t rows = config.num_globals * chunks;
  return rows * (rows + 1) / 2 + (chunks - 1) * config.num_globals * config.local_window;
}

}  // namespace

void HaloSConfig::adapt_defaults(const Json& given) {
  const auto found = given.find("graph");
  rotate_globals = found != given.end() && *found == "faithful";
}

void HaloSConfig::validate(std::string_view path) const {
  check_head_groups(num_heads, num_kv_heads, path);
  const bool faithful = graph == HaloGraph::faithful;
  require_input(!faithful || num_globals >= 1, "config", "{} is 0 but must be an integer >= 1 in the faithful graph",
                join_path(path, "num_globals"));
  require_input(faithful || duplicates == HaloDuplicates::counted, "config",
                "{} is \"once\" but the causal graph has no duplicates; leave it out or set graph to faithful",
                join_path(path, "duplicates"));
  if (globals == HaloGlobals::summary) {
    require_input(!faithful, "config", "{} is \"summary\" but must be static in the faithful graph",
                  join_path(path, "globals"));
    require_input(num_globals >= 1, "config", "{} is 0 but must be an integer >= 1 when globals is summary",
                  join_path(path, "num_globals"));
  }
}

void HaloSConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_size(context.hidden_size, num_heads, path);
  check_rotary(context.hidden_size / num_heads, context.rope, path);
  require_input(context.max_seq_len > num_globals, "config",
                "max_seq_len is {} but must be greater than {}, which is {}: it counts globals and tokens",
                context.max_seq_len, join_path(path, "num_globals"), num_globals);
  constexpr std::int64_t kMostRows = 1 << 27;
  const std::int64_t rows = global_rows().total(context.max_seq_len - num_globals);
  require_input(rows <= kMostRows, "config",
                "max_seq_len is {}, with the summaries of {} {} rows, but at most {} are possible", context.max_seq_len,
                path.empty() ? "halo_s" : path, rows, kMostRows);
}

NamedShapes HaloSConfig::parameters(const MixerContext& context) const {
  const AttentionPlan a = plan(*this, context);
  NamedShapes shapes = a.parameters("attn", context.bias);
  if (num_globals > 0)
    for (auto& shape : a.parameters("global_attn", context.bias)) shapes.push_back(std::move(shape));
  return shapes;
}

/// attn projects all rows, and its pairs are those of tokens. global_attn serves the global rows; the last layer leaves
/// it out, because nothing reads them afterwards.
Cost HaloSConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(*this, context);
  const std::int64_t rows = global_rows().total(tokens);
  const std::int64_t globals = rows - tokens;
  const std::int64_t pairs =
      graph == HaloGraph::faithful
          ? faithful_pairs(*this, context.layer, tokens)
          : causal_pairs(*this, causal_stride(context.layer, *this, context.max_seq_len), tokens);
  Cost cost{.parameters = count_elements(parameters(context)),
            .forward_flops = a.query_flops(rows) + a.key_value_flops(rows) + a.pair_flops(pairs) + a.output_flops(rows),
            .state_bytes = a.cache_bytes(rows)};
  if (globals > 0 && context.layer + 1 < context.num_layers) {
    const std::int64_t chunks = globals / num_globals;
    const std::int64_t read = globals + (chunks - 1) * local_window;
    cost.forward_flops += a.query_flops(globals) + a.key_value_flops(read) + a.pair_flops(global_pairs(*this, chunks)) +
                          a.output_flops(globals);
    // Keys and values of the global rows' own attention; of the tokens it reads, those of two chunks.
    const std::int64_t kept = globals_are_summaries() ? std::min(tokens, 2 * local_window) : 0;
    cost.state_bytes += a.cache_bytes(globals + kept);
  }
  return cost;
}

GlobalRows HaloSConfig::global_rows() const {
  return {.count = num_globals, .chunk = globals_are_summaries() ? local_window : 0};
}

}  // namespace sq
