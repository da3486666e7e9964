#include "nn/mixers/masked_keys.h"

#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/view.h"

#include <cmath>

namespace sq {

ScoredRows without_masked_keys(const ScoredRows& rows, const Tensor& mask) {
  constexpr double kLower = 30000;  // f16 holds it, and the sum with any score of use
  const Tensor &q = rows.q, &k = rows.k;
  const double scale = rows.scale > 0 ? rows.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  const Tensor unit = Tensor::full({q.size(0), q.size(1), q.size(2), 1}, 1 / scale, q.options());
  const Tensor column = reshape(mask, {k.size(0), 1, k.size(2), 1});
  const Tensor lower = where(column, Tensor::zeros({}, k.options()), Tensor::full({}, -kLower, k.options()));
  return {concat({q, unit}, 3), concat({k, expand(lower, {k.size(0), k.size(1), k.size(2), 1})}, 3), scale};
}

}  // namespace sq
