// nn/mixers/head_norm.h: what a memory of sums returns, brought to one size.
#pragma once

#include "nn/init.h"
#include "nn/module.h"

namespace sq {

/// Each head of each position scaled to unit root mean square and multiplied by a gain (ops/rms_norm.h, ε = 1e-5), as
/// Sun et al. 2023, RetNet, section 2.4, do with what grows with the number of positions. Parameter `weight` [D], first
/// 1, shared by all heads.
class HeadNorm : public Module {
 public:
  HeadNorm(std::int64_t width, const Initializer& init);

  /// Heads [B,H,T,D] of any float dtype -> the same, in memory as [B,T,H,D].
  Tensor forward(const Tensor& heads) const;

 private:
  Tensor weight_;
};

}  // namespace sq
