// nn/linear.h: a matrix applied to the last axis.
#pragma once

#include "nn/init.h"
#include "nn/module.h"
#include "tensor/memory.h"

namespace sq {

/// y = x·Wᵀ + b. Parameters `weight` [out,in] and, where asked, `bias` [out].
class Linear : public Module {
 public:
  Linear(std::int64_t in, std::int64_t out, bool bias, Initializer& init, LinearRole role = LinearRole::inner);
  /// Given values; `bias` may be undefined. Throws Error when they do not fit each other.
  explicit Linear(Tensor weight, Tensor bias = {});

  /// x [..., in] -> [..., out].
  Tensor forward(const Tensor& x) const;

  const Tensor& weight() const { return weight_; }
  /// Undefined when there is none.
  const Tensor& bias() const { return bias_; }

 protected:
  void hold_own_matrices_in(DType dtype) override {
    weight_ = replace_parameter("weight", packed_copy(weight_, dtype));
  }

 private:
  Tensor weight_;
  Tensor bias_;
};

}  // namespace sq
