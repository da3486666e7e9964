#include "nn/residuals/weighted.h"

#include "ops/cast.h"
#include "ops/elementwise.h"

#include <nlohmann/json.hpp>

namespace sq {

WeightedResidual::WeightedResidual(const WeightedConfig& config, const ResidualContext& context, Initializer& init)
    : config_(config), norm_(context.hidden_size, context.norm, init) {
  add_module("", norm_);
}

Tensor WeightedResidual::apply(const Tensor& x, const Branch& branch) {
  const Tensor result = cast(branch(autocast(norm_.forward(x))), x.dtype());
  return add(mul(x, config_.keep), mul(result, config_.add));
}

extern const ResidualEntry weighted_entry;
const ResidualEntry weighted_entry = residual_entry<WeightedConfig, WeightedResidual>(
    "weighted", "one stream: keep·x + add·f(norm(x))", "the DeltaNet of the original BSBR library");

}  // namespace sq
