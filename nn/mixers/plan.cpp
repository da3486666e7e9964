#include "nn/mixers/plan.h"

namespace sq {

std::int64_t count_elements(const NamedShapes& shapes) {
  std::int64_t sum = 0;
  for (const auto& [name, shape] : shapes) sum += shape.numel();
  return sum;
}

}  // namespace sq
