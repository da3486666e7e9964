// nn/short_convolution.h: a layer that mixes each channel with its own last values.
#pragma once

#include "nn/init.h"
#include "nn/module.h"

#include <span>

namespace sq {

/// y_t = silu(Σ_j weight[·,j] ∘ x_{t-(W-1)+j}) (ops/short_convolution.h). Parameter `weight` [C,W], which at first lets
/// the own position through: small random numbers, and 1 more in the last column.
class ShortConvolution : public Module {
 public:
  ShortConvolution(std::int64_t channels, std::int64_t taps, Initializer& init);

  /// x [B,T,C] -> [B,T,C]. Rows where `mask` (u8 [B,T], or undefined) is 0 count as zeros.
  Tensor forward(const Tensor& x, const Tensor& mask = {}) const;

  /// The same for the next rows x [B,t,C], of which the first counts[b] are real. `before` [B,W-1,C] holds the real
  /// rows before them, in the dtype of x, and those before the next call afterwards.
  Tensor step(const Tensor& x, Tensor& before, std::span<const std::int64_t> counts) const;

  std::int64_t taps() const { return weight_.size(1); }

 private:
  Tensor weight_;
};

}  // namespace sq
