#include "nn/decay_gates.h"

#include "ops/elementwise.h"

#include <cmath>

namespace sq {

Tensor softplus_decay(const Tensor& a, const Tensor& log_rate, const Tensor& bias) {
  return -exp(log_rate) * softplus(a + bias);
}

Tensor bounded_decay(const Tensor& a, const Tensor& log_rate, const Tensor& bias, double bound) {
  require(bound > 0, "bounded_decay", "bound {} is not positive", bound);
  return sigmoid(exp(log_rate) * (a + bias)) * -bound;
}

Tensor log_sigmoid_decay(const Tensor& a, double divisor) {
  require(divisor > 0, "log_sigmoid_decay", "divisor {} is not positive", divisor);
  return log_sigmoid(a) / divisor;
}

std::vector<double> retention_decays(std::int64_t heads) {
  std::vector<double> result;
  for (std::int64_t h = 0; h < heads; ++h) result.push_back(std::log1p(-std::exp2(-5 - static_cast<double>(h))));
  return result;
}

std::vector<double> lightning_decays(std::int64_t heads, std::int64_t layer, std::int64_t layers) {
  require(layer >= 0 && layer < layers, "lightning_decays", "layer {} is not one of {} layers", layer, layers);
  const double rest = 1 - static_cast<double>(layer) / static_cast<double>(layers);
  std::vector<double> result;
  for (std::int64_t h = 0; h < heads; ++h)
    result.push_back(-8 * static_cast<double>(h) / static_cast<double>(heads) * rest);
  return result;
}

}  // namespace sq
