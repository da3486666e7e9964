// tests/support/relative_error.h: how far apart two tensors are.
#pragma once

#include "tensor/tensor.h"

#include <algorithm>
#include <cmath>

namespace sq::test {

/// Largest |a - b| over largest |b| (plain largest |a| where b is all zero); infinite when the shapes differ or a NaN
/// or infinity stands in one and not at the same place in the other.
inline double relative_error(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return INFINITY;
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) {
      if (std::isfinite(y[i])) scale = std::max(scale, std::abs(y[i]));
      continue;
    }
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return INFINITY;
    error = std::max(error, std::abs(x[i] - y[i]));
    scale = std::max(scale, std::abs(y[i]));
  }
  return scale > 0 ? error / scale : error;
}

}  // namespace sq::test
