#include "nn/mixers/dense_config.h"

namespace sq {

AttentionPlan DenseConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, num_heads, num_kv_heads, head_size(head_dim, context.hidden_size, num_heads)};
}

void DenseConfig::adapt_defaults(const Json& given) { default_kv_heads(given, num_kv_heads); }

void DenseConfig::validate(std::string_view path) const { check_head_groups(num_heads, num_kv_heads, path); }

void DenseConfig::check(const MixerContext& context, std::string_view path) const {
  check_head_dim(head_dim, context.hidden_size, num_heads, path);
  check_rotary(plan(context).head_dim, context.rope, path);
}

NamedShapes DenseConfig::parameters(const MixerContext& context) const {
  return plan(context).parameters("attn", context.bias);
}

/// Over R rows: R(R+1)/2 pairs under the causal mask, R² without it.
Cost DenseConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens);
  const std::int64_t pairs = causal ? rows * (rows + 1) / 2 : rows * rows;
  return {.parameters = count_elements(parameters(context)),
          .forward_flops = a.query_flops(rows) + a.key_value_flops(rows) + a.pair_flops(pairs) + a.output_flops(rows),
          .state_bytes = a.cache_bytes(rows)};
}

}  // namespace sq
