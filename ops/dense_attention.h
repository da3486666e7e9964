// ops/dense_attention.h
#pragma once

#include "ops/attention_layout.h"
#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

struct DenseAttentionOptions {
  bool causal = true;       // query i sees keys j <= i + Tk - Tq: the last query sees the last key
  double scale = 0;         // factor on the scores; 0 stands for 1/√D
  Tensor lengths = {};      // i64 or i32 [B], or undefined: keys at or past a row's length are absent
  double dropout = 0;       // on the weights, with the next stream of default_generator()
  std::int64_t window = 0;  // w > 0: query i sees only keys j > i + Tk - Tq - w
};

/// y_i = Σ_j a_ij v_j  with  a_i = softmax_j(scale · q_i·k_j)  over the live keys j of query i.
/// (Vaswani et al. 2017, eq. 1; computed tile by tile as Dao et al. 2022, algorithm 1, so that nothing of size Tq·Tk is
/// ever stored.)
///
/// q [B,H,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv] of one float dtype and device; any strides, without a copy when the
/// last is 1. Query head h reads key/value head h / (H/Hkv). Tq < Tk is decoding with a cache of keys.
/// Result [B,H,Tq,Dv], in memory as [B,Tq,H,Dv], so that merging the heads costs nothing. A query without any live key
/// gives 0 and gets no gradient.
///
/// Saves q, k, v, y and L_i = log Σ_j exp(score_ij) [B,H,Tq]. Backward recomputes a_ij = exp(score_ij - L_i):
///   dv_j = Σ_i a_ij dy_i,   ds_ij = a_ij (dy_i·v_j - dy_i·y_i),   dq_i = scale Σ_j ds_ij k_j,   dk_j = scale Σ_i ds_ij
///   q_i.
/// Throws Error on mismatched shapes, dtypes or devices, H not a multiple of Hkv, lengths outside 0 … Tk, a dropout
/// outside [0,1), a negative window.
Tensor dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, const DenseAttentionOptions& options = {});

namespace kernel {

/// What forward and backward both need to know.
struct DenseAttentionProblem {
  std::int64_t batch, heads, kv_heads, queries, keys, width, value_width;
  double scale;
  bool causal;
  std::int64_t window;          // 0 = none
  const std::int64_t* lengths;  // [B] or null
  WeightDropout dropout;
};

struct DenseAttentionForward {
  static constexpr std::string_view name = "dense_attention";
  template <class T>
  struct Arguments {
    DenseAttentionProblem problem;
    HeadRows<const T> q, k, v;
    HeadRows<T> y;
    Accumulator<T>* log_sums;  // [B,H,Tq]; +∞ for a query without live keys
  };
  template <class T>
  static Work work(const Arguments<T>& a);
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct DenseAttentionBackward {
  static constexpr std::string_view name = "dense_attention_backward";
  template <class T>
  struct Arguments {
    DenseAttentionProblem problem;
    HeadRows<const T> q, k, v, y, dy;
    const Accumulator<T>* log_sums;
    HeadRows<T> dq, dk, dv;  // null when not wanted
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
