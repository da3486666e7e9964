// nn/residuals/weighted.h: a residual connection with fixed weights.
#pragma once

#include "nn/residuals/residual.h"

namespace sq {

struct WeightedConfig {
  double keep = 0.9;
  double add = 0.1;

  static constexpr auto fields() {
    return std::tuple{
        field("keep", &WeightedConfig::keep, "factor of the stream"),
        field("add", &WeightedConfig::add, "factor of what the branch adds"),
    };
  }
};

/// keep·x + add·f(norm(x)), the wiring of the original BSBR library's DeltaNet. Here for its checkpoints: after L
/// layers the stream holds keep^(2L) of the embedding, 8 % for 0.9 and L = 12, so new models do better with pre_norm.
class WeightedResidual : public Residual {
 public:
  WeightedResidual(const WeightedConfig& config, const ResidualContext& context, Initializer& init);

  /// x [B,T,C].
  Tensor apply(const Tensor& x, const Branch& branch) override;

 private:
  WeightedConfig config_;
  Norm norm_;
};

}  // namespace sq
