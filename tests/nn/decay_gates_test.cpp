#include "nn/decay_gates.h"

#include "ops/elementwise.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

TEST_CASE("gates are never above 0, and bounded where they promise it") {
  const Tensor a = variable({3, 5, 4}, 1) * 20, rate = variable({4}, 2), bias = variable({4}, 3);
  for (const Tensor& g : {softplus_decay(a, rate, bias), bounded_decay(a, rate, bias, 3), log_sigmoid_decay(a, 16)})
    for (const double value : g.to_vector<double>()) CHECK(value <= 0);
  for (const double value : bounded_decay(a, rate, bias, 3).to_vector<double>()) CHECK(value >= -3);
}

TEST_CASE("gates have the right gradients, for numbers of a head and of its features") {
  const auto both = [](const std::vector<Tensor>& in) {
    return softplus_decay(in[0], in[1], in[2]) + bounded_decay(in[0], in[1], in[2]) * 2 + log_sigmoid_decay(in[0], 4);
  };
  check_gradients(both, {variable({2, 3, 4}, 1), variable({4}, 2), variable({4}, 3)});
  check_gradients(both, {variable({2, 3, 2, 4}, 1), variable({2, 1}, 2), variable({2, 4}, 3)});
}

TEST_CASE("constant decays of heads and layers") {
  const std::vector<double> retention = retention_decays(3);
  for (std::size_t h = 0; h < 3; ++h)
    CHECK(std::exp(retention[h]) == doctest::Approx(1 - std::pow(2.0, -5 - static_cast<double>(h))));
  CHECK(lightning_decays(4, 3, 12) == std::vector<double>{-0.0, -1.5, -3, -4.5});
  CHECK_THROWS_WITH_AS(lightning_decays(4, 12, 12), "lightning_decays: layer 12 is not one of 12 layers", Error);
}
