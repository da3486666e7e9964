#include "nn/init.h"

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

constexpr double kDeviation = 0.02;

}  // namespace

Initializer::Initializer(InitScheme scheme, std::int64_t num_layers, Generator& generator, TensorOptions options)
    : scheme_(scheme), num_layers_(num_layers), generator_(generator), options_(options) {
  require(num_layers >= 1, "initializer", "{} layers is not a positive number", num_layers);
}

Tensor Initializer::uniform(const Shape& shape, std::int64_t in) {
  const double bound = 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(in, 1)));
  Tensor values = Tensor::empty(shape, options_);
  fill_uniform_(values, -bound, bound, generator_);
  return values;
}

Tensor Initializer::normal(const Shape& shape, double deviation) {
  Tensor values = Tensor::empty(shape, options_);
  fill_normal_(values, 0, deviation, generator_);
  return values;
}

Tensor Initializer::weight(std::int64_t out, std::int64_t in, LinearRole role) {
  if (scheme_ == InitScheme::faithful) return uniform({out, in}, in);
  const bool ends_branch = role == LinearRole::residual_output;
  return normal({out, in}, ends_branch ? kDeviation / std::sqrt(2.0 * static_cast<double>(num_layers_)) : kDeviation);
}

Tensor Initializer::bias(std::int64_t out, std::int64_t in) {
  return scheme_ == InitScheme::faithful ? uniform({out}, in) : zeros({out});
}

Tensor Initializer::embedding(std::int64_t rows, std::int64_t width) {
  return normal({rows, width}, scheme_ == InitScheme::faithful ? 1 : kDeviation);
}

}  // namespace sq
