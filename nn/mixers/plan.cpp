#include "nn/mixers/plan.h"

namespace sq {

double product(std::initializer_list<std::int64_t> factors) {
  double result = 1;
  for (const std::int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

std::int64_t count_elements(const NamedShapes& shapes) {
  std::int64_t sum = 0;
  for (const auto& [name, shape] : shapes) sum += shape.numel();
  return sum;
}

}  // namespace sq
