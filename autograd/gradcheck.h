// autograd/gradcheck.h: is the backward of a function the derivative of its forward?
#pragma once

#include "autograd/node.h"

namespace sq {

struct GradcheckOptions {
  double step = 1e-6;       // h of the central difference (f(x+h) - f(x-h)) / 2h
  double tolerance = 1e-6;  // allowed |analytic - numeric| / max(1, largest |numeric|) per input
  std::uint64_t seed = 1;   // of the random cotangent
};

/// Compares the gradients of φ(inputs) = Σ c · function(inputs), c random, with central differences, element by
/// element, for every f64 input marked with set_requires_grad. Returns an empty string when all agree, else one
/// sentence naming the input, the element and both values. Throws Error when an input that needs a gradient is not f64
/// and row-major.
std::string gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                      const std::vector<Tensor>& inputs, const GradcheckOptions& options = {});

}  // namespace sq
