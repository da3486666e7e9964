// nn/norm.h: normalisation of the last axis.
#pragma once

#include "nn/init.h"
#include "nn/module.h"

#include <array>
#include <memory>
#include <string_view>

namespace sq {

enum class NormKind { layer, rms };
constexpr std::array<std::string_view, 2> choices(NormKind) { return {"layer_norm", "rms_norm"}; }

struct NormOptions {
  NormKind kind = NormKind::layer;
  bool bias = true;    // layer only
  double epsilon = 0;  // 0 = the kind's usual one: layer 1e-5, rms 1e-6
};

/// layer: y = (x - mean) / √(variance + ε) · weight + bias, biased variance (Ba et al. 2016).
/// rms: y = x / √(mean x² + ε) · weight (Zhang & Sennrich 2019).
/// Parameters `weight` [C], first 1, and `bias` [C], first 0, where asked.
class Norm : public Module {
 public:
  /// Throws Error when epsilon is negative.
  Norm(std::int64_t width, const NormOptions& options, const Initializer& init);

  /// x [..., C] -> the same shape.
  Tensor forward(const Tensor& x) const;

 private:
  NormKind kind_;
  double epsilon_;
  Tensor weight_;
  Tensor bias_;
};

}  // namespace sq
