#include "nn/sinusoidal.h"

#include "ops/embedding.h"
#include "ops/view.h"
#include "tensor/error.h"
#include "tensor/memory.h"

#include <algorithm>
#include <cmath>

namespace sq {

SinusoidalPositions::SinusoidalPositions(std::int64_t width, double base, std::int64_t limit, TensorOptions options)
    : width_(width), base_(base), limit_(limit), options_(options) {
  require(width >= 1 && limit >= 1 && std::isfinite(base) && base > 0, "sinusoidal",
          "width {}, base {} and {} rows must be positive", width, base, limit);
}

void SinusoidalPositions::grow(std::int64_t count) {
  require(count >= 1 && count <= limit_, "sinusoidal", "{} positions are asked for, but there are 1 to {}", count,
          limit_);
  if (count <= size()) return;
  // Doubled each time, so that a sequence that grows token by token computes each row about twice.
  const std::int64_t rows = std::min(limit_, std::max(count, 2 * size()));
  std::vector<double> values(static_cast<std::size_t>(rows * width_));
  for (std::int64_t column = 0; column < width_; ++column) {
    const std::int64_t even = column - column % 2;  // 2k
    const double frequency = std::pow(base_, -static_cast<double>(even) / static_cast<double>(width_));
    for (std::int64_t p = 0; p < rows; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      values[static_cast<std::size_t>(p * width_ + column)] = column % 2 == 0 ? std::sin(angle) : std::cos(angle);
    }
  }
  const Tensor table = Tensor::empty({rows, width_}, options_);
  Tensor target = table;
  copy_(target, Tensor::from(values, {rows, width_}));
  table_ = table;
}

Tensor SinusoidalPositions::first(std::int64_t count) {
  grow(count);
  return slice(table_, 0, 0, count);
}

Tensor SinusoidalPositions::at(std::span<const std::int64_t> positions, const Shape& shape) {
  require(!positions.empty() && *std::min_element(positions.begin(), positions.end()) >= 0, "sinusoidal",
          "positions must be 0 to {}", limit_ - 1);
  grow(*std::max_element(positions.begin(), positions.end()) + 1);
  return embedding(table_, Tensor::from(std::vector<std::int64_t>(positions.begin(), positions.end()), shape));
}

}  // namespace sq
