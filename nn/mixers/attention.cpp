#include "nn/mixers/attention.h"

#include "nn/mixers/masked_keys.h"
#include "ops/rope.h"
#include "ops/view.h"

namespace sq {

AttentionOptions AttentionOptions::in_model(const MixerContext& context, std::int64_t num_heads,
                                            std::int64_t num_kv_heads, std::int64_t head_dim) {
  return {.sizes = {context.hidden_size, num_heads, num_kv_heads, head_dim},
          .bias = context.bias,
          .rope = context.rope,
          .rope_base = context.rope_base,
          .dropout = context.dropout};
}

Attention::Attention(const AttentionOptions& options, Initializer& init)
    : options_(options),
      q_proj_(options.sizes.hidden_size, options.sizes.num_heads * options.sizes.head_dim, options.bias, init),
      k_proj_(options.sizes.hidden_size, options.sizes.num_kv_heads * options.sizes.head_dim, options.bias, init),
      v_proj_(options.sizes.hidden_size, options.sizes.num_kv_heads * options.sizes.head_dim, options.bias, init),
      o_proj_(options.sizes.num_heads * options.sizes.head_dim, options.sizes.hidden_size, options.bias, init,
              LinearRole::residual_output),
      dropout_(options.dropout) {
  add_module("q_proj", q_proj_);
  add_module("k_proj", k_proj_);
  add_module("v_proj", v_proj_);
  add_module("o_proj", o_proj_);
  add_module("dropout", dropout_);
}

Tensor Attention::heads(const Tensor& x, std::int64_t count) const {
  return transpose(reshape(x, {x.size(0), x.size(1), count, options_.sizes.head_dim}), 1, 2);
}

Tensor Attention::rotate(const Tensor& heads, const Tensor& positions) const {
  return options_.rope ? rope(heads, positions, options_.rope_base) : heads;
}

Tensor Attention::output(const Tensor& heads) const {
  const Tensor rows = transpose(heads, 1, 2);  // [B,T,H,D]
  return o_proj_.forward(reshape(rows, {rows.size(0), rows.size(1), rows.size(2) * rows.size(3)}));
}

Tensor Attention::over_all(const Tensor& x, DenseAttentionOptions which, const Tensor& mask) const {
  const Tensor positions = Tensor::arange(x.size(1));
  ScoredRows rows{.q = rotate(queries(x), positions), .k = rotate(keys(x), positions), .scale = 0};
  if (mask.defined()) rows = without_masked_keys(rows, mask);
  which.scale = rows.scale;
  which.dropout = dropout_.rate();
  return output(dense_attention(rows.q, rows.k, values(x), which));
}

Tensor Attention::over_sequence(const Tensor& queries, const Tensor& sequence, bool causal, bool rotated) const {
  const std::int64_t rows = queries.size(1);
  require(!causal || sequence.size(1) >= rows, "attention", "{} queries need as many rows of the sequence {}", rows,
          sequence);
  const Tensor seen = causal ? slice(sequence, 1, 0, rows) : sequence;
  const auto turned = [&](const Tensor& heads) {
    return rotated ? rotate(heads, Tensor::arange(heads.size(2))) : heads;
  };
  return output(dense_attention(turned(this->queries(queries)), turned(keys(seen)), values(seen),
                                {.causal = causal, .lengths = {}, .dropout = dropout_.rate()}));
}

Tensor Attention::over_neighbors(const Tensor& queries, const Tensor& x, const NeighborRows& rows) const {
  return over_neighbors(queries, rotate(keys(x), rows.key_positions), values(x), rows);
}

Tensor Attention::over_neighbors(const Tensor& queries, const Tensor& keys, const Tensor& values,
                                 const NeighborRows& rows) const {
  const Tensor plain = this->queries(queries);
  NeighborAttentionOptions options;
  options.causal = rows.causal;
  options.dropout = dropout_.rate();
  if (options_.rope && rows.plain_columns > 0) {
    options.plain_q = plain;
    options.plain_columns = rows.plain_columns;
  }
  return output(neighbor_attention(rotate(plain, rows.query_positions), keys, values, rows.list, options));
}

}  // namespace sq
