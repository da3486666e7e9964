// nn/decay_gates.h: how fast a recurrent memory forgets: log decays g <= 0, which multiply it by e^g at a position.
//
// For ops/linear_attention.h and ops/delta_rule.h, which take g for each position and head, or for each feature of a
// key too. Small compositions of differentiable operations.
#pragma once

#include "tensor/tensor.h"

#include <vector>

namespace sq {

/// g = -e^A · softplus(a + b): A the logarithm of a rate and b a bias, both broadcast to a. With a [B,T,H] and A, b [H]
/// the gate of Mamba-2 (Dao & Gu 2024) and of gated DeltaNet (Yang et al. 2025, section 3.4), where the step that the
/// softplus gives stands for a time; with a [B,T,H,K], A [H,1] and b [H,K] that of Kimi delta attention (Kimi Team
/// 2025).
Tensor softplus_decay(const Tensor& a, const Tensor& log_rate, const Tensor& bias);

/// g = -bound · σ(e^A · (a + b)): the same, but never below -bound, so that a chunk's decay stays representable.
Tensor bounded_decay(const Tensor& a, const Tensor& log_rate, const Tensor& bias, double bound = 5);

/// g = ln σ(a) / divisor. Divisor 16 for gated linear attention (Yang et al. 2024, GLA, eq. 5), which keeps decays near
/// 1; divisor 1 for the forgetting transformer (Lin et al. 2025).
Tensor log_sigmoid_decay(const Tensor& a, double divisor = 1);

/// ln(1 - 2^(-5-h)) for heads h = 0, 1, …: constant decays of a retention network (Sun et al. 2023, RetNet, eq. 8).
std::vector<double> retention_decays(std::int64_t heads);

/// -(8h/H)(1 - layer/layers) for heads h = 0 … H-1 of layer 0 … layers-1: slopes of lightning attention (Qin et al.
/// 2024, "Various lengths, constant speed"), gentler in later layers.
std::vector<double> lightning_decays(std::int64_t heads, std::int64_t layer, std::int64_t layers);

}  // namespace sq
