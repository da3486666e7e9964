#include "nn/mixers/dense_config.h"

#include "nn/mixers/attention_plan.h"

namespace sq {
namespace {

AttentionPlan plan(const DenseConfig& config, const MixerContext& context) {
  return {context.hidden_size, config.num_heads, config.num_kv_heads, config.head_size(context.hidden_size)};
}

}  // namespace

void DenseConfig::adapt_defaults(const Json& given) { default_kv_heads(given, num_kv_heads); }

void DenseConfig::validate(std::string_view path) const { check_head_groups(num_heads, num_kv_heads, path); }

void DenseConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
  check_rotary(head_size(context.hidden_size), context.rope, path);
}

NamedShapes DenseConfig::parameters(const MixerContext& context) const {
  return plan(*this, context).parameters("attn", context.bias);
}

/// Over R rows: R(R+1)/2 pairs under the causal mask, R² without it.
Cost DenseConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(*this, context);
  const std::int64_t rows = context.globals.total(tokens);
  const std::int64_t pairs = causal ? rows * (rows + 1) / 2 : rows * rows;
  return {.parameters = count_elements(parameters(context)),
          .forward_flops = a.query_flops(rows) + a.key_value_flops(rows) + a.pair_flops(pairs) + a.output_flops(rows),
          .state_bytes = a.cache_bytes(rows)};
}

}  // namespace sq
