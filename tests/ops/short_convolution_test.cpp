#include "ops/short_convolution.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"

#include <limits>

using namespace sq;
using namespace sq::test;

namespace {

/// Put together from shifted copies: x, weight, bias, first.
Tensor composed(const std::vector<Tensor>& in) {
  const std::int64_t taps = in[1].size(1), positions = in[0].size(1);
  const Tensor whole = concat({in[3], in[0]}, 1);
  Tensor y = expand(in[2], in[0].shape());
  for (std::int64_t j = 0; j < taps; ++j) y = y + slice(whole, 1, j, j + positions) * select(in[1], 1, j);
  return y;
}

Tensor fused(const std::vector<Tensor>& in) { return short_convolution(in[0], in[1], in[2], in[3]); }

}  // namespace

TEST_CASE("short_convolution worked out by hand") {
  // two channels of three positions; weights (10, 1) and (0, 2): the last one is the position's own
  const Tensor x = Tensor::from<double>({1, 4, 2, 5, 3, 6}, {1, 3, 2});
  const Tensor weight = Tensor::from<double>({10, 1, 0, 2}, {2, 2});
  CHECK(short_convolution(x, weight).to_vector<double>() == std::vector<double>{1, 8, 12, 10, 23, 12});
  const Tensor bias = Tensor::from<double>({100, 200}, {2}), first = Tensor::from<double>({7, 8}, {1, 1, 2});
  CHECK(short_convolution(x, weight, bias, first).to_vector<double>() ==
        std::vector<double>{171, 208, 112, 210, 123, 212});
}

TEST_CASE("short_convolution equals its composition of small operations, gradients included") {
  for (const std::int64_t taps : {1, 2, 4, 7, 16})
    for (const auto& [positions, channels] : {std::pair{1, 5}, std::pair{3, 1}, std::pair{37, 19}, std::pair{16, 70}}) {
      CAPTURE(taps);
      check_same_function(fused, composed,
                          {variable({2, positions, channels}, 1), variable({channels, taps}, 2),
                           variable({channels}, 3), variable({2, taps - 1, channels}, 4)});
    }
}

TEST_CASE("short_convolution has the right gradients") {
  check_gradients(fused, {variable({2, 6, 3}, 1), variable({3, 4}, 2), variable({3}, 3), variable({2, 3, 3}, 4)});
  check_gradients([](const std::vector<Tensor>& in) { return short_convolution(in[0], in[1]); },
                  {variable({1, 5, 2}, 1), variable({2, 3}, 2)});
}

TEST_CASE("short_convolution in every dtype, on strided input and on none") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    const Tensor x = cast(randn({2, 33, 40}), dtype), weight = cast(randn({40, 4}), dtype);
    const Tensor bias = cast(randn({40}), dtype), first = cast(randn({2, 3, 40}), dtype);
    const auto wide = [](const Tensor& t) { return cast(t, DType::f64); };
    check_close(short_convolution(x, weight, bias, first),
                cast(composed({wide(x), wide(weight), wide(bias), wide(first)}), dtype));
    const Tensor turned = transpose(cast(randn({2, 40, 33}), dtype), 1, 2);
    check_close(short_convolution(turned, weight), short_convolution(packed_copy(turned), weight));
  }
  CHECK(short_convolution(Tensor::zeros({2, 0, 3}), Tensor::zeros({3, 4})).shape() == Shape{2, 0, 3});
}

TEST_CASE("short_convolution depends on the W-1 positions before and continues where it stopped") {
  const Tensor x = randn({2, 50, 24}), weight = randn({24, 4});
  const Tensor y = short_convolution(x, weight);
  Tensor other = packed_copy(x);
  Tensor changed = slice(other, 1, 20, 21);
  fill_(changed, std::numeric_limits<double>::quiet_NaN());
  const Tensor z = short_convolution(other, weight);
  CHECK(bit_equal(packed(slice(z, 1, 0, 20)), packed(slice(y, 1, 0, 20))));
  CHECK(bit_equal(packed(slice(z, 1, 24, 50)), packed(slice(y, 1, 24, 50))));
  CHECK(!all_finite(packed(slice(z, 1, 23, 24))));
  const Tensor rest = short_convolution(slice(x, 1, 31, 50), weight, {}, slice(x, 1, 28, 31));
  check_close(rest, packed(slice(y, 1, 31, 50)));
}

TEST_CASE("short_convolution gives the same bits for any thread count") {
  const Tensor x = randn({3, 700, 37}), weight = randn({37, 4}), dy = randn({3, 700, 37});
  std::vector<std::vector<Tensor>> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    const Tensor input = packed_copy(x), taps = packed_copy(weight);
    set_requires_grad(input);
    set_requires_grad(taps);
    backward(short_convolution(input, taps), dy);
    results.push_back({grad(input), grad(taps)});
  }
  cpu::set_thread_count(threads);
  for (const std::size_t i : {0, 1}) {
    CHECK(bit_equal(results[0][i], results[1][i]));
    CHECK(bit_equal(results[0][i], results[2][i]));
  }
}

TEST_CASE("short_convolution says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 5, 4}), weight = Tensor::zeros({4, 3});
  CHECK_THROWS_WITH_AS(short_convolution(Tensor::zeros({5, 4}), weight),
                       "short_convolution: x f32[5,4]@cpu is not [B,T,C]", Error);
  CHECK_THROWS_WITH_AS(short_convolution(x, Tensor::zeros({3, 4})),
                       "short_convolution: weight f32[3,4]@cpu is not [C,W] for x f32[2,5,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(short_convolution(x, Tensor::zeros({4, 17})),
                       "short_convolution: weight f32[4,17]@cpu has 17 taps but must have 1 … 16", Error);
  CHECK_THROWS_WITH_AS(short_convolution(x, weight, Tensor::zeros({3})),
                       "short_convolution: bias f32[3]@cpu is not [C] for x f32[2,5,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(short_convolution(x, weight, {}, Tensor::zeros({2, 3, 4})),
                       "short_convolution: first f32[2,3,4]@cpu is not [B,W-1,C] for x f32[2,5,4]@cpu and weight "
                       "f32[4,3]@cpu",
                       Error);
  CHECK_THROWS_AS(short_convolution(x, Tensor::zeros({4, 3}, {.dtype = DType::f64})), Error);
}
