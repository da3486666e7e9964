// ops/block_retrieval.h
#pragma once

#include "ops/attention_layout.h"
#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

struct BlockRetrievalOptions {
  double scale = 0;    // factor on the scores; 0 stands for 1/√D
  Tensor exists = {};  // u8 [B,n], 0 where a block is not to be found; undefined: all are there
};

/// Reads from a softmax mixture of the memories of earlier blocks. Position t lies in block c = ⌊t/C⌋:
///   y_t = Σ_{c'<c} p_c' F_c'ᵀ q_t,   p = softmax_{c'<c, c' exists}(scale · r·h_c')
/// where the retriever r belongs to the block of t or to t itself (BSBR 0.1.2, "block retrieval", with strictly earlier
/// blocks). 0 where no block is visible.
///
/// q [B,H,T,K]; r [B,H,n,D], one for each block, or [B,H,T,D], one for each position; h [B,H,n,D]; states F
/// [B,H,n,K,V]; n = ⌈T/C⌉, C = `block`; one float dtype and device, any strides; 16-bit floats are computed in f32.
/// What stands in a block that does not exist must be finite. Result [B,H,T,V], in memory as [B,T,H,V].
///
/// One retriever a block: M_c = Σ_c' p_cc' F_c', then Y_c = Q_c M_c. The weights are made for 64 blocks at a time and
/// multiplied with all F as one matrix [n, K·V]. Multiply-adds of a head: n²·D/2 for scores, n²·K·V/2 for mixing, T·K·V
/// for reading. One retriever a position: Y_c = [diag(p_0) Q_c, diag(p_1) Q_c, …] [F_0; F_1; …]: T·n·D/2 for scores and
/// T·n·K·V/2, C times as much as before.
///
/// Saves q, r, h, F and, with a retriever a block, M: O(T·K·V/C) numbers a head; neither weights nor mixtures of
/// positions. Backward makes the weights again:
///   dM_c = Q_cᵀ dY_c,  dQ_c = dY_c M_cᵀ,  dF_c' = Σ_c p_cc' dM_c,  dp_cc' = ⟨dM_c, F_c'⟩
///   ds = p (dp - Σ p dp),  dr_c = scale Σ_c' ds_cc' h_c',  dh_c' = scale Σ_c ds_cc' r_c
/// Throws Error on mismatched shapes, dtypes or devices and on a block below 1.
Tensor block_retrieval(const Tensor& q, const Tensor& r, const Tensor& h, const Tensor& states, std::int64_t block,
                       const BlockRetrievalOptions& options = {});

namespace kernel {

struct BlockRetrievalProblem {
  static constexpr std::int64_t kRows = 64;  // blocks whose weights are made at a time
  std::int64_t batch, heads, positions, width, value_width, key_width, block, blocks;
  bool per_position;  // a retriever a position
  double scale;
  const std::uint8_t* exists;  // [B,n] or null

  constexpr std::int64_t state_size() const { return width * value_width; }
  /// Positions of blocks [first, last).
  constexpr std::int64_t positions_of(std::int64_t first, std::int64_t last) const {
    return (last * block < positions ? last * block : positions) - first * block;
  }
  /// Rows of weights made at a time.
  constexpr std::int64_t weight_rows() const {
    const std::int64_t most = per_position ? block : kRows, all = per_position ? positions : blocks;
    return most < all ? most : all;
  }
  Work work(double element_bytes, double passes) const {
    const auto all = static_cast<double>(batch * heads), n = static_cast<double>(blocks),
               t = static_cast<double>(positions), kv = static_cast<double>(state_size());
    const double rows = per_position ? t : n;
    return {.flops = passes * all * (rows * (n - 1) * (static_cast<double>(key_width) + kv) + 2 * t * kv),
            .bytes = passes * element_bytes * all * (t * static_cast<double>(width + value_width) + n * kv)};
  }
};

struct BlockRetrievalForward {
  static constexpr std::string_view name = "block_retrieval";
  template <class T>
  struct Arguments {
    BlockRetrievalProblem problem;
    HeadRows<const T> q, r, h;
    const T* states;  // [B,H,n,K,V]
    T* mixtures;      // M [B,H,n,K,V]; null with a retriever a position
    HeadRows<T> y;
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return a.problem.work(sizeof(T), 1);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct BlockRetrievalBackward {
  static constexpr std::string_view name = "block_retrieval_backward";
  template <class T>
  struct Arguments {
    BlockRetrievalProblem problem;
    HeadRows<const T> q, r, h, dy;
    const T *states, *mixtures;
    // All zero at first.
    HeadRows<T> dq, dr, dh;
    T* dstates;  // [B,H,n,K,V]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return a.problem.work(sizeof(T), 2);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
