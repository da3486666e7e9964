// nn/init.h: first values of parameters.
#pragma once

#include "tensor/random.h"
#include "tensor/tensor.h"

#include <array>
#include <string_view>

namespace sq {

/// scaled: Normal(0, σ) everywhere with σ = √(2 / (5C)) for model width C (Nguyen and Salazar 2019, Transformers
/// without Tears, "SmallInit": 0.02 at width 1000, 0.056 at width 128), projections that end a residual branch
/// Normal(0, σ/√(2L)), so that the sum of the 2L branches of L layers has the size of one (Radford et al. 2019,
/// section 2.3); biases 0. faithful: what the original HALO-S starts from. Weights [out,in] and biases Uniform(-1/√in,
/// 1/√in), embeddings Normal(0, 1), no scaling with depth.
enum class InitScheme { scaled, faithful };
constexpr std::array<std::string_view, 2> choices(InitScheme) { return {"scaled", "faithful"}; }

/// What a linear layer's result is for. residual_output: it is added to the residual stream.
enum class LinearRole { inner, residual_output };

/// Draws the first values of a model's parameters, one stream of the generator each, in the order of the calls. The
/// values are the same in every dtype, rounded once.
class Initializer {
 public:
  /// Throws Error unless hidden_size >= 1 and num_layers >= 1.
  Initializer(InitScheme scheme, std::int64_t hidden_size, std::int64_t num_layers, Generator& generator,
              TensorOptions options = {});

  /// [out,in].
  Tensor weight(std::int64_t out, std::int64_t in, LinearRole role = LinearRole::inner);
  /// [out], of a layer with `in` inputs.
  Tensor bias(std::int64_t out, std::int64_t in);
  /// [rows,width]: embedding tables, learned positions, learned rows.
  Tensor embedding(std::int64_t rows, std::int64_t width);
  Tensor ones(const Shape& shape) const { return Tensor::ones(shape, options_); }
  Tensor zeros(const Shape& shape) const { return Tensor::zeros(shape, options_); }

 private:
  Tensor uniform(const Shape& shape, std::int64_t in);
  Tensor normal(const Shape& shape, double deviation);

  InitScheme scheme_;
  double deviation_, branch_end_deviation_;  // of the scaled scheme
  Generator& generator_;
  TensorOptions options_;
};

}  // namespace sq
