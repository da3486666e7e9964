#include "nn/norm.h"

#include "ops/layer_norm.h"
#include "ops/rms_norm.h"

namespace sq {

Norm::Norm(std::int64_t width, const NormOptions& options, const Initializer& init)
    : kind_(options.kind), weight_(add_parameter("weight", init.ones({width}))) {
  require(options.epsilon >= 0, "norm", "epsilon {} is negative", options.epsilon);
  const double usual = kind_ == NormKind::layer ? 1e-5 : 1e-6;
  epsilon_ = options.epsilon > 0 ? options.epsilon : usual;
  if (kind_ == NormKind::layer && options.bias) bias_ = add_parameter("bias", init.zeros({width}));
}

Tensor Norm::forward(const Tensor& x) const {
  return kind_ == NormKind::layer ? layer_norm(x, weight_, bias_, epsilon_) : rms_norm(x, weight_, epsilon_);
}

}  // namespace sq
