#include "autograd/checkpoint.h"
#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/rms_norm.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

/// y = 2x with its own node, so that the tape can be tested without any operation.
Tensor doubled(const Tensor& x) {
  Tensor y = packed_copy(x);
  accumulate_(y, x);
  return record("doubled", {x}, y, {}, [](const Saved&, const Tensor& dy) -> Gradients {
    Tensor dx = packed_copy(dy);
    accumulate_(dx, dy);
    return {dx};
  });
}

Tensor sum_of(const Tensor& a, const Tensor& b) {
  Tensor y = packed_copy(a);
  accumulate_(y, b);
  return record("sum_of", {a, b}, y, {}, [](const Saved&, const Tensor& dy) -> Gradients { return {dy, dy}; });
}

Tensor leaf(double value) {
  const Tensor x = Tensor::scalar(value, {.dtype = DType::f64});
  set_requires_grad(x);
  return x;
}

}  // namespace

TEST_CASE("gradients of several paths add up") {
  const Tensor x = leaf(3);
  backward(sum_of(sum_of(doubled(x), x), doubled(doubled(x))));
  CHECK(grad(x).item() == 7);
  backward(doubled(x));  // a second backward adds to what is there
  CHECK(grad(x).item() == 9);
}

TEST_CASE("a graph 100,000 nodes deep neither overflows the stack going back nor being dropped") {
  const Tensor x = leaf(1);
  Tensor y = x;
  for (int i = 0; i < 100000; ++i) y = sum_of(y, x);
  backward(y);
  CHECK(grad(x).item() == 100001);
  Tensor unused = x;
  for (int i = 0; i < 100000; ++i) unused = sum_of(unused, x);
}

TEST_CASE("a shared upstream gradient is not overwritten") {
  const Tensor a = leaf(1), b = leaf(1);
  const Tensor both = sum_of(a, b);  // returns the same dy twice
  backward(sum_of(both, doubled(a)));
  CHECK(grad(a).item() == 3);
  CHECK(grad(b).item() == 1);
}

TEST_CASE("misuse of the tape is explained" * doctest::test_suite("cpu")) {
  const Tensor x = leaf(1);
  const Tensor y = doubled(x);
  backward(y);
  CHECK_THROWS_WITH_AS(
      backward(y), "backward: the graph behind 'doubled' was freed by an earlier backward; run the forward pass again",
      Error);
  CHECK_THROWS_AS(backward(Tensor::scalar(1)), Error);
  CHECK_THROWS_AS(set_requires_grad(y), Error);
  CHECK_THROWS_AS(set_requires_grad(Tensor::arange(3)), Error);
  const Tensor matrix = randn({2, 2});
  set_requires_grad(matrix);
  CHECK_THROWS_WITH_AS(backward(doubled(matrix)),
                       "backward: f32[2,2]@cpu is not a single number; pass a seed of its shape", Error);
}

TEST_CASE("a saved tensor changed in place is noticed") {
  Tensor x = randn({2, 3}), gain = randn({3});
  set_requires_grad(gain);
  const Tensor y = rms_norm(x, gain);
  fill_(x, 0);
  CHECK_THROWS_WITH_AS(
      backward(y, Tensor::ones({2, 3})),
      fmt::format("rms_norm: {} was changed in place after it was saved for backward; change a copy instead", x)
          .c_str(),
      Error);
}

TEST_CASE("nothing is recorded without need") {
  const Tensor x = leaf(1);
  {
    const NoGrad guard;
    CHECK_FALSE(requires_grad(doubled(x)));
  }
  CHECK(requires_grad(doubled(x)));
  CHECK_FALSE(requires_grad(detach(doubled(x))));
}

TEST_CASE("checkpoint gives the same gradients and replays random numbers") {
  const auto noisy = [](const std::vector<Tensor>& in) {
    return doubled(sum_of(in[0], rand(in[0].shape(), in[0].options())));
  };
  const Tensor x = leaf(2), y = leaf(2);
  default_generator() = Generator(5);
  const Tensor plain = noisy({x});
  const Generator after = default_generator();
  default_generator() = Generator(5);
  const Tensor light = checkpoint(noisy, {y});
  CHECK(bit_equal(plain, light));
  CHECK(default_generator() == after);
  backward(plain);
  backward(light);
  CHECK(bit_equal(grad(x), grad(y)));
  CHECK(default_generator() == after);
}

TEST_CASE("checkpoint reaches leaves that only the function knows") {
  const Tensor hidden = leaf(2);
  backward(checkpoint([&](const std::vector<Tensor>& in) { return sum_of(in[0], doubled(hidden)); },
                      {Tensor::scalar(1, {.dtype = DType::f64})}));
  CHECK(grad(hidden).item() == 2);
}

TEST_CASE("anomaly mode names the operation that made the first NaN" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::full({2}, 1e38);
  set_requires_grad(x);
  const AnomalyMode watch;
  const Tensor once = doubled(x);
  CHECK_THROWS_WITH_AS(doubled(once), "anomaly: 'doubled' made a NaN or infinity in f32[2]@cpu from finite inputs",
                       Error);
  CHECK_NOTHROW(doubled(Tensor::full({2}, INFINITY)));  // not its fault
}

TEST_CASE("gradcheck finds a wrong gradient" * doctest::test_suite("cpu")) {
  const auto wrong = [](const std::vector<Tensor>& in) {
    return record("wrong", {in[0]}, packed_copy(in[0]), {}, [](const Saved&, const Tensor& dy) -> Gradients {
      Tensor dx = packed_copy(dy);
      accumulate_(dx, dy);
      return {dx};
    });
  };
  CHECK(gradcheck(wrong, {variable({2})}).starts_with("input 0 f64[2]@cpu element 0: backward gives"));
}
