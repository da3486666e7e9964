#include "nn/feature_map.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/gather.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <cmath>
#include <numeric>

namespace sq {
namespace {

constexpr std::string_view kOp = "feature_map";

/// [1, x/d^¼, x_a²/√(2d), x_a·x_b/√d for a < b].
Tensor second_order_taylor(const Tensor& x) {
  const std::int64_t width = x.size(-1);
  const double d = static_cast<double>(width);
  std::vector<std::int64_t> left, right;
  for (std::int64_t a = 0; a < width; ++a)
    for (std::int64_t b = a + 1; b < width; ++b) left.push_back(a), right.push_back(b);
  Shape one = x.shape();
  one[x.rank() - 1] = 1;
  std::vector<Tensor> parts{Tensor::ones(one, x.options()), x * std::pow(d, -0.25), pow(x, 2) * (1 / std::sqrt(2 * d))};
  if (!left.empty()) {
    const auto pick = [&](const std::vector<std::int64_t>& columns) {
      return index_select(x, -1, Tensor::from(columns, {static_cast<std::int64_t>(columns.size())}));
    };
    parts.push_back(pick(left) * pick(right) * (1 / std::sqrt(d)));
  }
  return concat(parts, -1);
}

/// y ∘ roll(y, j) for j = 1 … order, with y = relu([x, -x]).
Tensor projected_products(const Tensor& x, std::int64_t order) {
  const Tensor y = relu(concat({x, -x}, -1));
  const std::int64_t width = y.size(-1);
  std::vector<Tensor> parts;
  for (std::int64_t j = 1; j <= order; ++j)
    parts.push_back(y * concat({slice(y, -1, width - j, width), slice(y, -1, 0, width - j)}, -1));
  return concat(parts, -1);
}

/// Rows of length √width, orthogonal to each other within each group of `width` rows: Gram and Schmidt's method on
/// random rows. `rows` is what was drawn.
std::vector<double> orthogonal_rows(std::vector<double> rows, std::int64_t count, std::int64_t width) {
  const auto row = [&](std::int64_t r) { return rows.begin() + r * width; };
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t other = r - r % width; other < r; ++other) {  // those before it have length √width already
      const double share = std::inner_product(row(r), row(r) + width, row(other), 0.0) / static_cast<double>(width);
      for (std::int64_t c = 0; c < width; ++c) row(r)[c] -= share * row(other)[c];
    }
    const double length = std::sqrt(std::inner_product(row(r), row(r) + width, row(r), 0.0));
    const double factor = std::sqrt(static_cast<double>(width)) / length;
    for (std::int64_t c = 0; c < width; ++c) row(r)[c] *= factor;
  }
  return rows;
}

}  // namespace

bool has_positive_products(FeatureKind kind) {
  switch (kind) {
    case FeatureKind::identity:
    case FeatureKind::silu:
    case FeatureKind::hadamard:
      return false;
    case FeatureKind::elu_plus_1:
    case FeatureKind::relu:
    case FeatureKind::squared_relu:
    case FeatureKind::exp:
    case FeatureKind::softmax:
    case FeatureKind::hedgehog:
    case FeatureKind::t2r:
    case FeatureKind::taylor2:  // 1 + s + s²/2 = (1 + (1 + s)²)/2
    case FeatureKind::dpfp:
    case FeatureKind::favor_positive:
      return true;
  }
  return false;
}

std::int64_t feature_width(const FeatureOptions& options, std::int64_t width) {
  switch (options.kind) {
    case FeatureKind::hedgehog:
      return 2 * width;
    case FeatureKind::taylor2:
      return 1 + 2 * width + width * (width - 1) / 2;
    case FeatureKind::dpfp:
      return 2 * width * options.order;
    case FeatureKind::favor_positive:
      return options.random_features;
    default:
      return width;
  }
}

std::vector<std::pair<std::string, Shape>> feature_parameters(const FeatureOptions& options, std::int64_t width) {
  const Shape matrix{width, width}, row{width};
  switch (options.kind) {
    case FeatureKind::hedgehog:
      return {{"weight", matrix}, {"bias", row}};
    case FeatureKind::hadamard:
      return {{"weight1", matrix}, {"bias1", row}, {"weight2", matrix}, {"bias2", row}};
    case FeatureKind::t2r:
      return {{"weight", matrix}};
    default:
      return {};
  }
}

FeatureMap::FeatureMap(const FeatureOptions& options, std::int64_t width, Initializer& init)
    : options_(options), width_(width) {
  require(width >= 1, kOp, "{} features are none to make features of", width);
  require(options.kind != FeatureKind::dpfp || (options.order >= 1 && options.order < 2 * width), kOp,
          "order {} is outside 1 … {} for {} features", options.order, 2 * width - 1, width);
  for (const auto& [name, shape] : feature_parameters(options, width))
    parameters_.push_back(add_parameter(name, shape.rank() == 2 ? init.weight(width, width) : init.bias(width, width)));
  if (options.kind != FeatureKind::favor_positive) return;
  const std::int64_t count = options.random_features;
  require(count >= 1, kOp, "{} random features are none", count);
  const Tensor drawn = init.embedding(count, width);
  const Tensor rows = Tensor::from(orthogonal_rows(drawn.to_vector<double>(), count, width), {count, width});
  directions_ = add_buffer("directions", moved(packed_copy(rows, drawn.dtype()), drawn.device()));
}

Tensor FeatureMap::affine(const Tensor& x, std::size_t first) const {
  const bool bias = first + 1 < parameters_.size();
  return linear(x, cast(parameters_[first], x.dtype()), bias ? cast(parameters_[first + 1], x.dtype()) : Tensor());
}

Tensor FeatureMap::random_exponentials(const Tensor& x) const {
  const Tensor z = x * std::pow(static_cast<double>(width_), -0.25);
  const Tensor exponent = linear(z, cast(directions_, x.dtype())) - sum(z * z, {-1}, true) * 0.5;
  return exp(exponent) * (1 / std::sqrt(static_cast<double>(options_.random_features)));
}

Tensor FeatureMap::forward(const Tensor& x) const {
  require(x.rank() >= 1 && x.size(-1) == width_, kOp, "the last axis of {} must have {} features", x, width_);
  switch (options_.kind) {
    case FeatureKind::identity:
      return x;
    case FeatureKind::elu_plus_1:
      return elu_plus_one(x);
    case FeatureKind::relu:
      return relu(x);
    case FeatureKind::squared_relu:
      return pow(relu(x), 2);
    case FeatureKind::exp:
      return exp(x);
    case FeatureKind::silu:
      return silu(x);
    case FeatureKind::softmax:
      return softmax(x);
    case FeatureKind::hedgehog: {
      const Tensor y = affine(x, 0) * 2;
      return softmax(concat({y, -y}, -1));
    }
    case FeatureKind::hadamard:
      return affine(x, 0) * affine(x, 2);
    case FeatureKind::t2r:
      return relu(affine(x, 0));
    case FeatureKind::taylor2:
      return second_order_taylor(x);
    case FeatureKind::dpfp:
      return projected_products(x, options_.order);
    case FeatureKind::favor_positive:
      return random_exponentials(x);
  }
  return x;
}

}  // namespace sq
