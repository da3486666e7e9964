// ops/neighbor_attention.h
#pragma once

#include "ops/attention_layout.h"
#include "ops/neighbor_list.h"
#include "tensor/profiler.h"

namespace sq {

struct NeighborAttentionOptions {
  bool causal = true;   // slots whose key lies after the query's own position are absent
  double scale = 0;     // factor on the scores; 0 stands for 1/√D
  double dropout = 0;   // on the weights, with the next stream of default_generator()
  Tensor plain_q = {};  // like q: the query vectors of the first `plain_columns` slots (such as unrotated queries)
  std::int64_t plain_columns = 0;
};

/// y_i = Σ_c a_ic v_nb(i,c)  with  a_i = softmax_c(scale · q_i·k_nb(i,c))  over the live slots c of query i.
/// Keys and values are read where they lie: time and memory grow with the number of slots, and nothing of size Tq·K·D
/// is ever stored.
///
/// q [B,H,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv] of one float dtype and device; any strides, without a copy when the
/// last is 1. Query head h reads key/value head h / (H/Hkv). A key listed c times in a row counts c times. Result
/// [B,H,Tq,Dv], in memory as [B,Tq,H,Dv]. A query without any live slot gives 0 and gets no gradient. Dropout numbers
/// its weights as dense_attention does, so that equal graphs drop equal pairs; the n-th repeat of a pair adds
/// n·B·H·Tq·Tk to its number.
///
/// Saves q, k, v, y and L_i = log Σ_c exp(score_ic) [B,H,Tq]. Backward recomputes a_ic = exp(score_ic - L_i):
///   ds_ic = a_ic (dy_i·v_nb - dy_i·y_i),  dq_i = scale Σ_c ds_ic k_nb(i,c),  and, over all (i,c) with nb(i,c) = j,
///   dk_j = scale Σ ds_ic q_i,  dv_j = Σ a_ic dy_i;  plain_q takes the place of q in its slots.
/// Throws Error on mismatched shapes, dtypes or devices, a list made for other lengths, H not a multiple of Hkv, a
/// dropout outside [0,1), plain columns without plain_q or beyond the list.
Tensor neighbor_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const std::shared_ptr<const NeighborList>& list,
                          const NeighborAttentionOptions& options = {});

namespace kernel {

struct NeighborAttentionProblem {
  std::int64_t batch, heads, kv_heads, queries, keys, width, value_width;
  double scale;
  WeightDropout dropout;
};

struct NeighborAttentionForward {
  static constexpr std::string_view name = "neighbor_attention";
  template <class T>
  struct Arguments {
    NeighborAttentionProblem problem;
    const NeighborPlan* plan;
    const NeighborDevicePlan* device_plan;  // on a GPU, in place of `plan`
    HeadRows<const T> q, plain_q, k, v;
    HeadRows<T> y;
    Accumulator<T>* log_sums;  // [B,H,Tq]; +∞ for a query without live slots
  };
  template <class T>
  static Work work(const Arguments<T>& a);
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct NeighborAttentionBackward {
  static constexpr std::string_view name = "neighbor_attention_backward";
  template <class T>
  struct Arguments {
    NeighborAttentionProblem problem;
    const NeighborPlan* plan;               // with the queries of each key
    const NeighborDevicePlan* device_plan;  // the same on a GPU, in place of `plan`
    HeadRows<const T> q, plain_q, k, v, y, dy;
    const Accumulator<T>* log_sums;
    Accumulator<T>* delta;             // [B,H,Tq], memory for Σ_c dy_c y_c of each query
    HeadRows<T> dq, dplain_q, dk, dv;  // null when not wanted; all of each is written
  };
  template <class T>
  static Work work(const Arguments<T>& a);
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
