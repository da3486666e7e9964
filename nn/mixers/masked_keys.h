// nn/mixers/masked_keys.h: softmax attention that does not see some of its keys.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// What softmax scores are made of: scale · q_i·k_j, with q [B,H,Tq,D], k [B,Hkv,Tk,D]. scale 0 stands for 1/√D.
struct ScoredRows {
  Tensor q;
  Tensor k;
  double scale = 0;
};

/// Rows whose scores are the same at keys where `mask` (u8 [B,Tk]) is 1 and lower by 30000 where it is 0, so that those
/// keys weigh nothing beside any other: e^-30000 is 0 in every dtype. One feature more does it, 1/scale in every query,
/// 0 or -30000 in a key; kernels need no mask of their own. A query that sees masked keys only gets an average of
/// theirs; it is padding itself, for a real position sees at least itself.
ScoredRows without_masked_keys(const ScoredRows& rows, const Tensor& mask);

}  // namespace sq
