// nn/residuals/pre_norm.h: the usual residual connection.
#pragma once

#include "nn/residuals/residual.h"

namespace sq {

/// No options.
struct PreNormConfig {
  static constexpr auto fields() { return std::tuple{}; }
};

/// x + f(norm(x)) (Xiong et al. 2020, "On layer normalization in the transformer architecture").
class PreNorm : public Residual {
 public:
  PreNorm(const PreNormConfig& config, const ResidualContext& context, Initializer& init);

  /// x [B,T,C].
  Tensor apply(const Tensor& x, const Branch& branch) override;

 private:
  Norm norm_;
};

}  // namespace sq
