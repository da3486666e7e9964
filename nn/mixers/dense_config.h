// nn/mixers/dense_config.h: options of dense attention.
#pragma once

#include "nn/fields.h"
#include "nn/mixers/attention_plan.h"
#include "nn/mixers/plan.h"

namespace sq {

/// Softmax attention over all positions (Vaswani et al. 2017) whose query heads share key/value heads in groups
/// (Ainslie et al. 2023).
struct DenseConfig {
  std::int64_t num_heads = 8;
  std::int64_t num_kv_heads = 8;
  std::int64_t head_dim = 0;
  bool causal = true;

  static constexpr auto fields() {
    return std::tuple{
        field("num_heads", &DenseConfig::num_heads, "query heads", {.min = 1, .max = 1 << 12}),
        field("num_kv_heads", &DenseConfig::num_kv_heads,
              "key/value heads; num_heads must be a multiple; where left out, as many", {.min = 1, .max = 1 << 12}),
        field("head_dim", &DenseConfig::head_dim, "features per head; 0 = hidden_size / num_heads",
              {.min = 0, .max = 1 << 12}),
        field("causal", &DenseConfig::causal, "position t sees positions <= t only"),
    };
  }

  AttentionPlan plan(const MixerContext& context) const;

  void adapt_defaults(const Json& given);
  // Throw UsageError; see MixerEntry.
  void validate(std::string_view path) const;
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const { return {}; }
};

}  // namespace sq
