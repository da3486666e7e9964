#include "nn/residuals/pre_norm.h"

#include "ops/cast.h"
#include "ops/elementwise.h"

namespace sq {

PreNorm::PreNorm(const ResidualContext& context, Initializer& init) : norm_(context.hidden_size, context.norm, init) {
  add_module("", norm_);
}

Tensor PreNorm::apply(const Tensor& x, const Branch& branch) {
  return add(x, cast(branch(autocast(norm_.forward(x))), x.dtype()));
}

extern const ResidualEntry pre_norm_entry;
const ResidualEntry pre_norm_entry = {
    .name = "pre_norm",
    .summary = "one stream: x + f(norm(x))",
    .paper = "Xiong et al. 2020, On Layer Normalization in the Transformer Architecture",
    .make = [](const ResidualContext& context, Initializer& init) -> std::unique_ptr<Residual> {
      return std::make_unique<PreNorm>(context, init);
    },
};

}  // namespace sq
