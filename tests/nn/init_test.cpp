#include "nn/init.h"

#include "tests/support/compare.h"

using namespace sq;

namespace {

struct Spread {
  double mean = 0, deviation = 0, largest = 0;
};

Spread spread(const Tensor& t) {
  Spread s;
  const std::vector<double> values = t.to_vector<double>();
  const auto n = static_cast<double>(values.size());
  for (const double v : values) {
    s.mean += v / n;
    s.largest = std::max(s.largest, std::abs(v));
  }
  for (const double v : values) s.deviation += (v - s.mean) * (v - s.mean) / n;
  s.deviation = std::sqrt(s.deviation);
  return s;
}

}  // namespace

TEST_CASE("scaled weights are normal, narrower with width, and branch ends with depth") {
  Generator generator(1);
  Initializer init(InitScheme::scaled, 1000, 8, generator);
  const Spread inner = spread(init.weight(200, 100));
  CHECK(inner.mean == doctest::Approx(0).epsilon(1e-3));
  CHECK(inner.deviation == doctest::Approx(0.02).epsilon(0.03));
  CHECK(inner.largest > 0.05);  // no uniform distribution of that deviation reaches it
  CHECK(spread(init.weight(200, 100, LinearRole::residual_output)).deviation == doctest::Approx(0.005).epsilon(0.03));
  CHECK(spread(init.embedding(200, 100)).deviation == doctest::Approx(0.02).epsilon(0.03));
  CHECK(spread(init.bias(50, 100)).largest == 0);
  Initializer narrow(InitScheme::scaled, 40, 8, generator);  // √(2 / (5·40)) = 0.1
  CHECK(spread(narrow.weight(200, 100)).deviation == doctest::Approx(0.1).epsilon(0.03));
  CHECK(spread(narrow.embedding(200, 100)).deviation == doctest::Approx(0.1).epsilon(0.03));
}

TEST_CASE("faithful weights are uniform within one over the root of the inputs, embeddings standard normal") {
  Generator generator(1);
  Initializer init(InitScheme::faithful, 1000, 8, generator);
  for (const LinearRole role : {LinearRole::inner, LinearRole::residual_output}) {
    const Spread weight = spread(init.weight(200, 100, role));
    CHECK(weight.largest <= 0.1);
    CHECK(weight.largest > 0.0999);
    CHECK(weight.deviation == doctest::Approx(0.1 / std::sqrt(3)).epsilon(0.02));
  }
  CHECK(spread(init.bias(500, 25)).largest <= 0.2);
  CHECK(spread(init.bias(500, 25)).largest > 0.19);
  CHECK(spread(init.embedding(200, 100)).deviation == doctest::Approx(1).epsilon(0.03));
}

TEST_CASE("initial values follow from the seed and are the same in every dtype") {
  Generator one(5), two(5), other(6);
  Initializer a(InitScheme::scaled, 1000, 2, one), b(InitScheme::scaled, 1000, 2, two, {.dtype = DType::f64}),
      c(InitScheme::scaled, 1000, 2, other);
  const Tensor first = a.weight(7, 5), second = a.weight(7, 5);
  CHECK(bit_equal(first, packed_copy(b.weight(7, 5), DType::f32)));
  CHECK(!bit_equal(first, second));
  CHECK(!bit_equal(first, c.weight(7, 5)));
  CHECK_THROWS_WITH_AS(Initializer(InitScheme::scaled, 1000, 0, one), "initializer: 0 layers is not a positive number",
                       Error);
  CHECK_THROWS_WITH_AS(Initializer(InitScheme::scaled, 0, 1, one),
                       "initializer: 0 is not a model width; it must be at least 1", Error);
}
