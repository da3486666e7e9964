#include "ops/forgetting_attention.h"

#include "ops/cast.h"
#include "ops/cumsum.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/softmax.h"
#include "ops/view.h"
#include "tests/support/composed.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace sq;
using namespace sq::test;

namespace {

Tensor gates(const Shape& shape, TensorOptions options = {.dtype = DType::f64}) {
  return mul(rand(shape, options), -1);
}

/// softmax_{j<=i}(s q_i·k_j + f_{j+1} + … + f_i) v, the sums of gates pair by pair.
Tensor pair_by_pair(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_forget, double scale) {
  const std::int64_t positions = q.size(2);
  std::vector<std::uint8_t> past;
  for (std::int64_t i = 0; i < positions; ++i)
    for (std::int64_t j = 0; j < positions; ++j) past.push_back(j <= i ? 1 : 0);
  const Tensor sums = cumsum(log_forget, 2);
  const Tensor scores = matmul(q, transpose(k, 2, 3)) * scale + unsqueeze(sums, 3) - unsqueeze(sums, 2);
  const Tensor absent = Tensor::full({}, -1e9, q.options());
  return matmul(softmax(where(Tensor::from(past, {positions, positions}), scores, absent)), v);
}

}  // namespace

TEST_CASE("forgetting_attention equals the softmax pair by pair, gradients included") {
  const Poison poison;
  for (const std::int64_t positions : {1, 17, 70})
    for (const double scale : {0.5, -2.0}) {
      CAPTURE(positions);
      const TensorOptions options{.dtype = DType::f64};
      check_same_function(
          [=](const std::vector<Tensor>& t) { return forgetting_attention(t[0], t[1], t[2], t[3], {.scale = scale}); },
          [=](const std::vector<Tensor>& t) { return pair_by_pair(t[0], t[1], t[2], t[3], scale); },
          {randn({2, 2, positions, 4}, options), randn({2, 2, positions, 4}, options),
           randn({2, 2, positions, 3}, options), gates({2, 2, positions})});
    }
}

TEST_CASE("forgetting_attention: gates of 0 forget nothing, gates of -∞ in effect all before") {
  const Tensor q = randn({1, 1, 40, 8}), k = randn({1, 1, 40, 8}), v = randn({1, 1, 40, 5});
  check_close(forgetting_attention(q, k, v, Tensor::zeros({1, 1, 40})), dense_attention(q, k, v));
  check_close(forgetting_attention(q, k, v, Tensor::full({1, 1, 40}, -200)), v);
}

TEST_CASE("forgetting_attention takes halves, and f32 as exactly as it says") {
  const Tensor q = randn({1, 2, 50, 8}), k = randn({1, 2, 50, 8}), v = randn({1, 2, 50, 5});
  const Tensor f = gates({1, 2, 50}, {.dtype = DType::f32});
  const auto run = [&](DType dtype, double strength) {
    const Tensor g = cast(f, dtype);
    return forgetting_attention(cast(q, dtype), cast(k, dtype), cast(v, dtype), mul(g, strength));
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    CHECK(run(dtype, 1).dtype() == dtype);
    CHECK(relative_error(run(dtype, 1), run(DType::f64, 1)) <= tolerance(dtype));
  }
  CHECK(relative_error(run(DType::f32, 40), run(DType::f64, 40)) <= 1000 * 0x1p-22);  // |G| up to 1000
}

TEST_CASE("forgetting_attention has the right gradients") {
  const Tensor f = gates({1, 2, 6});
  set_requires_grad(f);
  check_gradients([](const std::vector<Tensor>& t) { return forgetting_attention(t[0], t[1], t[2], t[3]); },
                  {variable({1, 2, 6, 3}, 1), variable({1, 2, 6, 3}, 2), variable({1, 2, 6, 2}, 3), f});
}

TEST_CASE("forgetting_attention says what does not fit" * doctest::test_suite("cpu")) {
  const Tensor q = randn({1, 2, 5, 4}), v = randn({1, 2, 5, 3});
  CHECK_THROWS_WITH_AS(forgetting_attention(q, q, v, randn({1, 2, 4})),
                       "forgetting_attention: log_forget f32[1,2,4]@cpu must be [B,H,T] for q f32[1,2,5,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(forgetting_attention(q, randn({1, 1, 5, 4}), randn({1, 1, 5, 3}), randn({1, 2, 5})),
                       "forgetting_attention: q f32[1,2,5,4]@cpu and k f32[1,1,5,4]@cpu must have one shape [B,H,T,D]",
                       Error);
  CHECK_THROWS_WITH_AS(
      forgetting_attention(q, q, v, randn({1, 2, 5}, {.dtype = DType::f64})),
      "forgetting_attention: f32[1,2,5,4]@cpu and f64[1,2,5]@cpu differ in dtype or device; cast or move one of them",
      Error);
}
