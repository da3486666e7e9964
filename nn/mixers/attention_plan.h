// nn/mixers/attention_plan.h: what the mixers built from query, key, value and output projections have in common.
#pragma once

#include "nn/json.h"
#include "nn/mixers/plan.h"

#include <string_view>

namespace sq {

/// Sizes of one attention: H query heads and Hkv key/value heads of D features on rows of width C.
struct AttentionPlan {
  std::int64_t hidden_size;
  std::int64_t num_heads;
  std::int64_t num_kv_heads;
  std::int64_t head_dim;

  /// PREFIX.{q,k,v,o}_proj.weight as [out,in], and .bias after each weight where asked.
  NamedShapes parameters(std::string_view prefix, bool bias) const;

  // A multiply-add counts two; doubles, because the products exceed 63 bits before the sizes are absurd.
  double query_flops(std::int64_t rows) const { return product({2, rows, hidden_size, num_heads, head_dim}); }
  double key_value_flops(std::int64_t rows) const { return product({4, rows, hidden_size, num_kv_heads, head_dim}); }
  double output_flops(std::int64_t rows) const { return query_flops(rows); }
  /// Scores and weighted sum of `pairs` (query, key) pairs in every head.
  double pair_flops(std::int64_t pairs) const { return product({4, pairs, num_heads, head_dim}); }

  /// Keys and values of `rows` rows, f32.
  std::int64_t cache_bytes(std::int64_t rows) const { return 8 * rows * num_kv_heads * head_dim; }
};

/// Rules every attention has. Throw UsageError with keys under `path`.
void check_head_groups(std::int64_t num_heads, std::int64_t num_kv_heads, std::string_view path);
void check_head_size(std::int64_t hidden_size, std::int64_t num_heads, std::string_view path);
void check_rotary(std::int64_t head_dim, bool rope, std::string_view path);

/// Where options leave it out, there is a key/value head for each query head.
void default_kv_heads(const Json& given, std::int64_t& num_kv_heads);
/// D: `head_dim`, where 0 stands for hidden_size / num_heads.
inline std::int64_t head_size(std::int64_t head_dim, std::int64_t hidden_size, std::int64_t num_heads) {
  return head_dim > 0 ? head_dim : hidden_size / num_heads;
}
/// The rules for `head_dim`, except those of rotary positions. Throws UsageError with keys under `path`.
void check_head_dim(std::int64_t head_dim, std::int64_t hidden_size, std::int64_t num_heads, std::string_view path);

}  // namespace sq
