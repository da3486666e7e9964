// ops/delta_rule.h
#pragma once

#include "ops/linear_attention.h"

namespace sq {

struct DeltaRuleOptions {
  double scale = 0;         // factor s on the results; 0 stands for 1/√K
  Tensor log_decay = {};    // g [B,H,T] or [B,H,T,K], at most 0, in the dtype of q; undefined = 0: nothing is forgotten
  Tensor first_state = {};  // S_0 [B,H,K,V]; undefined = 0
};

struct DeltaRuleResult {
  Tensor y;      // [B,H,T,V], in memory as [B,T,H,V]
  Tensor state;  // S_T [B,H,K,V]
};

/// A memory that corrects itself: it is asked for the key first, and only what the value differs by is written.
///   S̃_t = e^(g_t) S_{t-1},   u_t = β_t (v_t - S̃_tᵀ k_t),   S_t = S̃_t + k_t u_tᵀ,   y_t = s S_tᵀ q_t
/// (Schlag et al. 2021, eq. 24; in parallel over positions: Yang et al. 2024, "Parallelizing linear transformers with
/// the delta rule"; with decay: Yang et al. 2025, "Gated delta networks"; with one for each row of the state: Kimi Team
/// 2025, "Kimi Linear"). The keys are used as they are: the memory stays bounded for keys of length 1 and β between 0
/// and 2. Causal by construction. Time O(T·(K·V + C·(K + V))), memory O(T).
///
/// q, k [B,H,T,K], v [B,H,T,V], beta [B,H,T] of one float dtype and device, any strides. 16-bit floats are computed in
/// f32 on every device.
///
/// Computed for chunks of C = 64 positions, with b, Γ, S and S' as in ops/linear_attention.h. Within a chunk the u_i
/// ask for one another, which makes a triangular system:
///   (I + A) U = diag(β) (V - diag(e^b) K S),   A_ij = β_i (k_i·k_j) Γ_ij for j < i, else 0
///   Y  = s (diag(e^b) Q S + (Q Kᵀ ∘ Γ) U),     S' = e^(b_C) S + (diag(e^(b_C - b)) K)ᵀ U
/// First (I + A)^-1 of each chunk, then U and the states from chunk to chunk, then Y: all but the middle step is
/// independent for every chunk, and that one for every head and column of V.
///
/// Saves q, k, v, β, g, and for each head K·V + C² + C·V numbers a chunk: its state, (I + A)^-1 and U. Backward, with
/// dS' the gradient of S', from the last chunk to the first:
///   dU = s (Q Kᵀ ∘ Γ)ᵀ dY + diag(e^(b_C - b)) K dS',   R = (I + A)^-ᵀ dU
///   dS = e^(b_C) dS' + s (diag(e^b) Q)ᵀ dY - (diag(β e^b) K)ᵀ R
/// and then for all chunks, with dP = (dY Uᵀ) ∘ Γ and X = -(R Uᵀ) ∘ Γ below the diagonal:
///   dQ = s (diag(e^b) dY Sᵀ + dP K)          dV = diag(β) R
///   D  = X K - diag(e^b) R Sᵀ                dβ_i = R_i·v_i + k_i·D_i
///   E  = s dPᵀ Q + diag(e^(b_C - b)) U dS'ᵀ + Xᵀ diag(β) K
///   dK = diag(β) D + E
///   db_i = q_i·dq_i + k_i·(β_i D_i - E_i),   dg_i = Σ_{l>=i} db_l + ⟨S', dS'⟩, or the same row by row
/// Throws Error on mismatched shapes, dtypes or devices.
DeltaRuleResult delta_rule(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& beta,
                           const DeltaRuleOptions& options = {});

namespace kernel {

/// What a chunk costs beside its positions: pairs of keys, the triangular system, and the states.
inline Work delta_rule_work(const LinearAttentionProblem& p, double element_bytes, double passes) {
  constexpr double kChunk = LinearAttentionProblem::kChunk;
  const auto rows = static_cast<double>(p.batch * p.heads * p.positions), k = static_cast<double>(p.width),
             v = static_cast<double>(p.value_width);
  return {.flops = passes * rows * (2 * kChunk * (k + v) + 6 * k * v),
          .bytes = passes * element_bytes * rows * 2 * (k + v)};
}

struct DeltaRuleForward {
  static constexpr std::string_view name = "delta_rule";
  template <class T>
  struct Arguments {
    LinearAttentionProblem problem;
    HeadRows<const T> q, k, v;
    const T* beta;         // [B,H,T]
    const T* log_decay;    // [B,H,T] or [B,H,T,K], or null
    const T* first_state;  // [B,H,K,V], or null
    HeadRows<T> y;
    T* states;    // [B,H,chunks+1,K,state_row]: before each chunk, and the last one
    T* inverses;  // [B,H,chunks,C,C]: ((I + A)^-1)ᵀ of each chunk
    T* updates;   // [B,H,chunks,C,state_row]: U
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return delta_rule_work(a.problem, sizeof(T), 1);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct DeltaRuleBackward {
  static constexpr std::string_view name = "delta_rule_backward";
  template <class T>
  struct Arguments {
    LinearAttentionProblem problem;
    HeadRows<const T> q, k, v, dy;
    const T* beta;
    const T* log_decay;
    const T* states;
    const T* inverses;
    const T* updates;
    const T* dstate;  // [B,H,K,V], the gradient of the last state, or null
    HeadRows<T> dq, dk, dv;
    T* dbeta;       // [B,H,T]
    T* dlog_decay;  // in the form of log_decay, or null
    T* dstates;     // [B,H,chunks+1,K,state_row]: memory; the first of each head is the gradient of the first state
    T* residuals;   // [B,H,chunks,C,state_row]: memory for dU, then R
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return delta_rule_work(a.problem, sizeof(T), 2.3);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
