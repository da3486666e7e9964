// nn/mixers/delta_net_faithful.h: the delta rule of the BSBR library 0.1.2, for its checkpoints and its numbers.
#pragma once

#include "ops/delta_rule.h"

namespace sq {

/// For each position, with clip(x) = min(max(x, -1), 1) on every element:
///   e_t = clip(v_t - S_{t-1}ᵀ k_t),   S_t = S_{t-1} + clip(β k_t e_tᵀ),   S_t ← 0.9 S_t where max |S_t| > 10,
///   y_t = clip(S_t q_t)
/// It reads the memory along the other axis than it writes it, which recalls nothing, and what is clipped has no
/// gradient. The rescaling looks at each head of each row on its own. The library also adds noise to a state that it is
/// handed; this does not. One position after the other in small operations: slow, and meant to be.
///
/// q, k [B,H,T,K], v [B,H,T,K] of f32 or f64; first_state [B,H,K,K] or undefined = 0. The host waits for the device at
/// every position.
DeltaRuleResult delta_net_faithful(const Tensor& q, const Tensor& k, const Tensor& v, double beta,
                                   const Tensor& first_state);

}  // namespace sq
