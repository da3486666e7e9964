#include "autograd/gradcheck.h"

#include "autograd/engine.h"
#include "tensor/memory.h"
#include "tensor/random.h"

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

double inner_product(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

}  // namespace

std::string gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& function,
                      const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  // Random functions (dropout) must draw the same numbers in every evaluation.
  const Generator generator = default_generator();
  const auto evaluate = [&] {
    default_generator() = generator;
    return function(inputs);
  };
  for (const Tensor& input : inputs) {
    if (!input.defined() || !requires_grad(input)) continue;
    require(input.dtype() == DType::f64 && input.is_contiguous(), "gradcheck", "{} must be f64 and row-major", input);
    set_grad(input, Tensor());
  }
  const Tensor result = evaluate();
  require(result.dtype() == DType::f64, "gradcheck", "the result {} must be f64", result);
  Generator cotangent_generator(options.seed);
  const Tensor cotangent = randn(result.shape(), result.options(), cotangent_generator);
  if (requires_grad(result)) backward(result, cotangent);

  const NoGrad unrecorded;
  for (std::size_t n = 0; n < inputs.size(); ++n) {
    Tensor input = inputs[n];
    if (!input.defined() || !requires_grad(input)) continue;
    const Tensor gradient = grad(input);
    const std::vector<double> analytic = gradient.defined()
                                             ? gradient.to_vector<double>()
                                             : std::vector<double>(static_cast<std::size_t>(input.numel()), 0.0);
    std::vector<double> numeric(analytic.size());
    for (std::size_t i = 0; i < numeric.size(); ++i) {
      Tensor element = input.alias({1}, {1}, static_cast<std::int64_t>(i));
      const double x = element.item();
      fill_(element, x + options.step);
      const double above = inner_product(evaluate(), cotangent);
      fill_(element, x - options.step);
      const double below = inner_product(evaluate(), cotangent);
      fill_(element, x);
      numeric[i] = (above - below) / (2 * options.step);
    }
    double scale = 1.0;
    for (double value : numeric) scale = std::max(scale, std::abs(value));
    for (std::size_t i = 0; i < numeric.size(); ++i)
      if (!(std::abs(analytic[i] - numeric[i]) <= options.tolerance * scale))
        return fmt::format("input {} {} element {}: backward gives {:.10g}, differences give {:.10g}", n, input, i,
                           analytic[i], numeric[i]);
  }
  return "";
}

}  // namespace sq
