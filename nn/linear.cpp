#include "nn/linear.h"

#include "ops/cast.h"
#include "ops/matmul.h"

namespace sq {

Linear::Linear(std::int64_t in, std::int64_t out, bool bias, Initializer& init, LinearRole role)
    : weight_(add_parameter("weight", init.weight(out, in, role))) {
  if (bias) bias_ = add_parameter("bias", init.bias(out, in));
}

Linear::Linear(Tensor weight, Tensor bias) : weight_(add_parameter("weight", std::move(weight))) {
  require(weight_.rank() == 2, "linear", "weight {} is not a matrix [out,in]", weight_);
  if (!bias.defined()) return;
  require(bias.rank() == 1 && bias.size(0) == weight_.size(0), "linear", "bias {} does not fit weight {}", bias,
          weight_);
  bias_ = add_parameter("bias", std::move(bias));
}

Tensor Linear::forward(const Tensor& x) const { return linear(autocast(x), autocast(weight_), autocast(bias_)); }

}  // namespace sq
