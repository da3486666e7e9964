// nn/dropout.h: random zeros while training.
#pragma once

#include "nn/module.h"

namespace sq {

/// In training mode each element is 0 with probability p and x/(1-p) otherwise (Srivastava et al. 2014), drawn from the
/// thread's default generator; in evaluation mode x itself.
class Dropout : public Module {
 public:
  /// Throws Error unless 0 <= p < 1.
  explicit Dropout(double p);

  Tensor forward(const Tensor& x) const;

  /// The probability that acts now: p in training mode, else 0.
  double rate() const { return training() ? p_ : 0; }

 private:
  double p_;
};

}  // namespace sq
