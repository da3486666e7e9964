#include "nn/residuals/pre_norm.h"

#include "ops/cast.h"
#include "ops/elementwise.h"

#include <nlohmann/json.hpp>

namespace sq {

PreNorm::PreNorm(const PreNormConfig&, const ResidualContext& context, Initializer& init)
    : norm_(context.hidden_size, context.norm, init) {
  add_module("", norm_);
}

Tensor PreNorm::apply(const Tensor& x, const Branch& branch) {
  return add(x, cast(branch(autocast(norm_.forward(x))), x.dtype()));
}

extern const ResidualEntry pre_norm_entry;
const ResidualEntry pre_norm_entry =
    residual_entry<PreNormConfig, PreNorm>("pre_norm", "one stream: x + f(norm(x))",
                                           "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture");

}  // namespace sq
