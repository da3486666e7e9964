#include "nn/mixers/head_norm.h"

#include "ops/cast.h"
#include "ops/rms_norm.h"
#include "ops/view.h"

namespace sq {

HeadNorm::HeadNorm(std::int64_t width, const Initializer& init)
    : weight_(add_parameter("weight", init.ones({width}))) {}

Tensor HeadNorm::forward(const Tensor& heads) const {
  return transpose(rms_norm(transpose(heads, 1, 2), cast(weight_, heads.dtype()), 1e-5), 1, 2);
}

}  // namespace sq
