// ops/forgetting_attention.h
#pragma once

#include "ops/dense_attention.h"

namespace sq {

struct ForgettingAttentionOptions {
  double scale = 0;  // factor on q·k; 0 stands for 1/√D
};

/// Causal attention that forgets: with log forget gates f_t <= 0 and G_t = f_1 + … + f_t
///   y_i = Σ_j a_ij v_j,   a_i = softmax_{j<=i}(s q_i·k_j + G_i - G_j)          (Lin et al. 2025, "Forgetting
///   Transformer")
/// so that a gate between a key and a query lowers the weight of the key.
///
/// q, k [B,H,T,D], v [B,H,T,Dv], log_forget [B,H,T] of one float dtype and device, any strides. Result [B,H,T,Dv], in
/// memory as [B,T,H,Dv]. 16-bit floats are computed in f32. Time O(T²·D), memory O(T).
///
/// G_i is the same for all keys of a query and drops out of its softmax; what is left is one more feature: -G_j/s of
/// the key against 1 of the query, in dense_attention, whose gradients and those of cumsum are those of this function.
/// Precision: -G_j is added to the score and cancels against that of the neighbours only in the softmax, so a score is
/// known to |G_j| times the rounding error of the dtype: in f32 to 6e-5 at |G| = 1000, a thousand gates of 1/e. Where
/// sums of the gates pass 1e5, compute in f64. Throws Error on mismatched shapes, dtypes or devices.
Tensor forgetting_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_forget,
                            const ForgettingAttentionOptions& options = {});

}  // namespace sq
