// nn/mixers/attention.h: projections to heads, softmax attention between them, projection back.
//
//   q = W_q·x [B,H,T,D],  k = W_k·x, v = W_v·x [B,Hkv,T,D],  q and k turned by rotary positions where asked,
//   o_i = Σ_j softmax_j(q_i·k_j / √D) · v_j,   y = W_o·(heads of o side by side)
//
// Query head h reads key/value head ⌊h·Hkv/H⌋ (Ainslie et al. 2023, GQA). What j runs over is the caller's choice.
#pragma once

#include "nn/dropout.h"
#include "nn/linear.h"
#include "nn/mixers/attention_plan.h"
#include "ops/dense_attention.h"
#include "ops/neighbor_attention.h"

namespace sq {

struct AttentionOptions {
  AttentionPlan sizes;
  bool bias = false;
  bool rope = true;
  double rope_base = 10000;
  double dropout = 0;  // on the weights, in training mode

  /// H query and Hkv key/value heads of D features in the model that `context` describes.
  static AttentionOptions in_model(const MixerContext& context, std::int64_t num_heads, std::int64_t num_kv_heads,
                                   std::int64_t head_dim);
};

/// Who reads whom: Tq queries, Tk keys.
struct NeighborRows {
  std::shared_ptr<const NeighborList> list;
  Tensor query_positions;          // i64 [Tq], rotary
  Tensor key_positions;            // i64 [Tk], rotary; not needed where keys are given
  std::int64_t plain_columns = 0;  // the first columns of the list are scored with queries that are not rotated
  bool causal = true;              // no column later than its query's own row
};

/// Parameters {q,k,v,o}_proj.weight, each followed by .bias where asked.
class Attention : public Module {
 public:
  Attention(const AttentionOptions& options, Initializer& init);

  /// x [B,T,C] -> heads [B,H or Hkv,T,D].
  Tensor queries(const Tensor& x) const { return heads(q_proj_.forward(x), options_.sizes.num_heads); }
  Tensor keys(const Tensor& x) const { return heads(k_proj_.forward(x), options_.sizes.num_kv_heads); }
  Tensor values(const Tensor& x) const { return heads(v_proj_.forward(x), options_.sizes.num_kv_heads); }
  /// Heads [B,·,T,D] turned to positions i64 [T] or [B,T]; as they are when the attention has no rotary positions.
  Tensor rotate(const Tensor& heads, const Tensor& positions) const;
  /// Heads [B,H,T,D] -> [B,T,C].
  Tensor output(const Tensor& heads) const;

  /// Every row sees the rows that `which` lets it see. Row i of x [B,T,C] is at position i. Keys at zeros of `mask` (u8
  /// [B,T], or undefined) are absent. The scale and the dropout of `which` are not looked at.
  Tensor over_all(const Tensor& x, DenseAttentionOptions which, const Tensor& mask = {}) const;
  /// Rows of `queries` [B,Tq,C], at positions 0 … Tq-1, over `sequence` [B,Tk,C], at 0 … Tk-1, or without rotary
  /// positions. causal: row i sees rows 0 … i, so that later rows of `sequence` are not even read.
  Tensor over_sequence(const Tensor& queries, const Tensor& sequence, bool causal, bool rotated = true) const;
  /// Rows of `queries` [B,Tq,C] over the listed rows of `x` [B,Tk,C]. A row without neighbors gets the output of zero.
  Tensor over_neighbors(const Tensor& queries, const Tensor& x, const NeighborRows& rows) const;
  /// The same with keys [B,Hkv,Tk,D], already rotated, and values, from a cache.
  Tensor over_neighbors(const Tensor& queries, const Tensor& keys, const Tensor& values,
                        const NeighborRows& rows) const;

  const AttentionPlan& sizes() const { return options_.sizes; }
  /// The share of weights that are set to 0 now.
  double dropout_rate() const { return dropout_.rate(); }
  /// Of keys and values.
  TensorOptions tensor_options() const {
    const TensorOptions weights = q_proj_.weight().options();
    return {holds_half_matrices() ? DType::f32 : weights.dtype, weights.device};
  }

 private:
  Tensor heads(const Tensor& x, std::int64_t count) const;

  AttentionOptions options_;
  Linear q_proj_;
  Linear k_proj_;
  Linear v_proj_;
  Linear o_proj_;
  Dropout dropout_;
};

}  // namespace sq
