#include "nn/init.h"

#include <algorithm>
#include <cmath>

namespace sq {

Initializer::Initializer(InitScheme scheme, std::int64_t hidden_size, std::int64_t num_layers, Generator& generator,
                         TensorOptions options)
    : scheme_(scheme), generator_(generator), options_(options) {
  require(hidden_size >= 1, "initializer", "{} is not a model width; it must be at least 1", hidden_size);
  require(num_layers >= 1, "initializer", "{} layers is not a positive number", num_layers);
  deviation_ = std::sqrt(2 / (5 * static_cast<double>(hidden_size)));
  branch_end_deviation_ = deviation_ / std::sqrt(2 * static_cast<double>(num_layers));
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
  return normal({out, in}, role == LinearRole::residual_output ? branch_end_deviation_ : deviation_);
}

Tensor Initializer::bias(std::int64_t out, std::int64_t in) {
  return scheme_ == InitScheme::faithful ? uniform({out}, in) : zeros({out});
}

Tensor Initializer::embedding(std::int64_t rows, std::int64_t width) {
  return normal({rows, width}, scheme_ == InitScheme::faithful ? 1 : deviation_);
}

}  // namespace sq
