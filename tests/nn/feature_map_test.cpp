#include "nn/feature_map.h"

#include "autograd/engine.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

FeatureMap make(const FeatureOptions& options, std::int64_t width, std::uint64_t seed = 1) {
  Generator generator(seed);
  Initializer init(InitScheme::faithful, width, 1, generator, {.dtype = DType::f64});
  return FeatureMap(options, width, init);
}

std::vector<double> features(const FeatureOptions& options, const std::vector<double>& x) {
  return make(options, static_cast<std::int64_t>(x.size()))
      .forward(Tensor::from(x, {static_cast<std::int64_t>(x.size())}))
      .to_vector<double>();
}

void check_values(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(want[i]));
}

}  // namespace

TEST_CASE("feature maps worked out by hand") {
  const std::vector<double> x{1, -2};
  check_values(features({FeatureKind::elu_plus_1}, x), {2, std::exp(-2)});
  check_values(features({FeatureKind::squared_relu}, {3, -2}), {9, 0});
  // relu([1,-2,-1,2]) = [1,0,0,2]; rolled by one [2,1,0,0], by two [0,2,1,0]
  check_values(features({FeatureKind::dpfp, 2}, x), {2, 0, 0, 0, 0, 0, 0, 0});
  check_values(features({FeatureKind::dpfp, 1}, {1, 2}), {0, 2, 0, 0});
  const double r = std::sqrt(2.0), q = std::sqrt(r);
  check_values(features({FeatureKind::taylor2}, x), {1, 1 / q, -2 / q, 0.5, 2, -2 / r});
}

TEST_CASE("features have the announced width, and never negative products where that is promised") {
  for (std::size_t i = 0; i < choices(FeatureKind()).size(); ++i) {
    const FeatureOptions options{static_cast<FeatureKind>(i), 3, 10};
    CAPTURE(choices(FeatureKind())[i]);
    const FeatureMap map = make(options, 6);
    const Tensor x = variable({40, 6}, 3), y = map.forward(x);
    CHECK(y.shape() == Shape{40, feature_width(options, 6)});
    const Tensor products = matmul(y, transpose(y, 0, 1));
    if (has_positive_products(options.kind))
      CHECK(max(-products).item() <= 1e-12);
    else
      CHECK(max(-products).item() > 0);
    std::vector<std::pair<std::string, Shape>> own;
    for (const auto& [name, tensor] : map.named_parameters()) own.emplace_back(name, tensor.shape());
    CHECK(own == feature_parameters(options, 6));
  }
}

TEST_CASE("input and parameters of every feature map have the right gradients") {
  for (std::size_t i = 0; i < choices(FeatureKind()).size(); ++i) {
    CAPTURE(choices(FeatureKind())[i]);
    const FeatureMap map = make({static_cast<FeatureKind>(i), 2, 6}, 4);
    std::vector<Tensor> inputs{variable({3, 4}, 5)};
    for (const auto& [name, tensor] : map.named_parameters()) inputs.push_back(tensor);
    check_gradients([&](const std::vector<Tensor>& in) { return map.forward(in[0]); }, inputs);
  }
}

TEST_CASE("products of taylor2 are 1 + s + s²/2, those of many random features nearly e^s") {
  const Tensor q = variable({20, 8}, 1) * 0.5, k = variable({20, 8}, 2) * 0.5;
  const std::vector<double> s = (matmul(q, transpose(k, 0, 1)) * (1 / std::sqrt(8.0))).to_vector<double>();
  const auto products = [&](const FeatureMap& map) {
    return matmul(map.forward(q), transpose(map.forward(k), 0, 1)).to_vector<double>();
  };
  const FeatureMap taylor = make({FeatureKind::taylor2}, 8);
  const std::vector<double> series = products(taylor);
  for (std::size_t i = 0; i < s.size(); ++i) CHECK(series[i] == doctest::Approx(1 + s[i] + s[i] * s[i] / 2));
  const FeatureMap random = make({FeatureKind::favor_positive, 3, 4096}, 8);
  const std::vector<double> nearly = products(random);
  double error = 0, sum = 0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    error += std::abs(nearly[i] - std::exp(s[i]));
    sum += std::exp(s[i]);
  }
  CHECK(error < 0.15 * sum);
}

TEST_CASE("random features are orthogonal in groups and belong to the state of the module") {
  const FeatureMap map = make({FeatureKind::favor_positive, 3, 7}, 4);
  REQUIRE(map.named_buffers().size() == 1);
  const Tensor rows = map.named_buffers()[0].second;
  const std::vector<double> products = matmul(rows, transpose(rows, 0, 1)).to_vector<double>();
  for (std::size_t a = 0; a < 7; ++a)
    for (std::size_t b = 0; b < 7; ++b)
      if (a / 4 == b / 4) CHECK(products[a * 7 + b] == doctest::Approx(a == b ? 4 : 0).epsilon(1e-9));
}

TEST_CASE("feature maps say what is wrong" * doctest::test_suite("cpu")) {
  CHECK_THROWS_WITH_AS(make({FeatureKind::dpfp, 8}, 4), "feature_map: order 8 is outside 1 … 7 for 4 features", Error);
  CHECK_THROWS_WITH_AS(make({FeatureKind::favor_positive, 3, 0}, 4), "feature_map: 0 random features are none", Error);
  CHECK_THROWS_WITH_AS(make({}, 4).forward(Tensor::zeros({2, 3})),
                       "feature_map: the last axis of f32[2,3]@cpu must have 4 features", Error);
}
