// ops/linear_attention.h
#pragma once

#include "ops/attention_layout.h"
#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

struct LinearAttentionOptions {
  double scale = 0;         // factor s on the results; 0 stands for 1/√K
  Tensor log_decay = {};    // g [B,H,T] or [B,H,T,K], at most 0, in the dtype of q; undefined = 0: nothing is forgotten
  Tensor first_state = {};  // S_0 [B,H,K,V]; undefined = 0
};

struct LinearAttentionResult {
  Tensor y;      // [B,H,T,V], in memory as [B,T,H,V]
  Tensor state;  // S_T [B,H,K,V]
};

/// A memory that each position writes to and reads from:
///   S_t = e^(g_t) S_{t-1} + k_t v_tᵀ,   y_t = s S_tᵀ q_t = s Σ_{j<=t} e^(g_{j+1} + … + g_t) (q_t·k_j) v_j
/// (Katharopoulos et al. 2020, eq. 18 to 20, with features applied beforehand; with decay: Sun et al. 2023, "RetNet",
/// Dao & Gu 2024, "SSD"; with one decay for each of the K rows of the state: Yang et al. 2024, "Gated linear
/// attention"). Causal by construction. Time O(T·K·V), memory O(T).
///
/// q, k [B,H,T,K], v [B,H,T,V] of one float dtype and device, any strides. 16-bit floats are computed in f32 on every
/// device: a state is a long sum.
///
/// Computed for chunks of C = 64 positions, b_i = g_1 + … + g_i within a chunk, S its first state, S' the next one's:
///   Y  = s (diag(e^b) Q S + (Q Kᵀ ∘ Γ) V),   Γ_ij = e^(b_i - b_j) for j <= i, else 0
///   S' = e^(b_C) S + (diag(e^(b_C - b)) K)ᵀ V
/// Only differences of b that are at most 0 are exponentiated. With a decay for each row, Γ weighs each channel of a
/// pair: (Q Kᵀ ∘ Γ)_ij stands for Σ_c q_ic k_jc Γ_ijc, which is formed in blocks of 16 positions, and dP K for Σ_j
/// dP_ij Γ_ijc k_jc with dP = dY Vᵀ. First each chunk's own contribution to S', then the sum over chunks, then Y: all
/// but the middle step, which is short, are independent for every chunk.
///
/// Saves q, k, v and the chunks' states, T/64·K·V numbers for each head. Backward, with dS' the gradient of S':
///   dP = (dY Vᵀ) ∘ Γ,  P = (Q Kᵀ) ∘ Γ
///   dQ = s (diag(e^b) dY Sᵀ + dP K)                  dK = diag(e^(b_C - b)) V dS'ᵀ + s dPᵀ Q
///   dV = s Pᵀ dY + diag(e^(b_C - b)) K dS'           dS = e^(b_C) dS' + s (diag(e^b) Q)ᵀ dY
///   dg_i = Σ_{l>=i} (q_l·dq_l - k_l·dk_l) + ⟨S', dS'⟩ for the positions l of the chunk, or the same row by row
/// Throws Error on mismatched shapes, dtypes or devices.
LinearAttentionResult linear_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                       const LinearAttentionOptions& options = {});

namespace kernel {

struct LinearAttentionProblem {
  static constexpr std::int64_t kChunk = 64;
  std::int64_t batch, heads, positions, width, value_width;
  double scale;
  bool decay_by_row = false;  // log_decay is [B,H,T,K]

  constexpr std::int64_t chunks() const { return (positions + kChunk - 1) / kChunk; }
  /// Rows of a stored state are whole vectors on every machine: columns beyond value_width are 0.
  constexpr std::int64_t state_row() const { return (value_width + 15) / 16 * 16; }
  constexpr std::int64_t state_size() const { return width * state_row(); }
  /// Products of a chunk's pairs and of its positions with the state.
  Work work(double element_bytes, double passes) const {
    const auto rows = static_cast<double>(batch * heads * positions), k = static_cast<double>(width),
               v = static_cast<double>(value_width);
    return {.flops = passes * rows * (kChunk * (k + v) + 4 * k * v),
            .bytes = passes * element_bytes * rows * 2 * (k + v)};
  }
};

struct LinearAttentionForward {
  static constexpr std::string_view name = "linear_attention";
  template <class T>
  struct Arguments {
    LinearAttentionProblem problem;
    HeadRows<const T> q, k, v;
    const T* log_decay;    // [B,H,T] or [B,H,T,K], or null
    const T* first_state;  // [B,H,K,V], or null
    HeadRows<T> y;
    T* states;  // [B,H,chunks+1,K,state_row]: before each chunk, and the last one
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

struct LinearAttentionBackward {
  static constexpr std::string_view name = "linear_attention_backward";
  template <class T>
  struct Arguments {
    LinearAttentionProblem problem;
    HeadRows<const T> q, k, v, dy;
    const T* log_decay;
    const T* states;
    const T* dstate;  // [B,H,K,V], the gradient of the last state, or null
    HeadRows<T> dq, dk, dv;
    T* dlog_decay;  // in the form of log_decay, or null
    T* dstates;     // [B,H,chunks+1,K,state_row]: memory; the first of each head is the gradient of the first state
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return a.problem.work(sizeof(T), 2.5);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
