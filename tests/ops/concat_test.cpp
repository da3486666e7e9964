#include "ops/concat.h"

#include "autograd/engine.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {
using Values = std::vector<double>;
}

TEST_CASE("concat, stack, split and pad worked out by hand") {
  const Poison poison;
  const Tensor a = Tensor::from<double>({1, 2, 3, 4}, {2, 2}), b = Tensor::from<double>({5, 6}, {2, 1});
  CHECK(concat({a, b}, 1).to_vector<double>() == Values{1, 2, 5, 3, 4, 6});
  CHECK(concat({a, a}, 0).to_vector<double>() == Values{1, 2, 3, 4, 1, 2, 3, 4});
  CHECK(concat({a}, -1).to_vector<double>() == Values{1, 2, 3, 4});
  CHECK(concat({slice(b, 1, 0, 0), b}, 1).to_vector<double>() == Values{5, 6});
  CHECK(stack({a, a + 4.0}, 0).shape() == Shape{2, 2, 2});
  CHECK(stack({a, a + 4.0}, 1).to_vector<double>() == Values{1, 2, 5, 6, 3, 4, 7, 8});
  CHECK(stack({a, a + 4.0}, -1).to_vector<double>() == Values{1, 5, 2, 6, 3, 7, 4, 8});
  CHECK(stack({Tensor::scalar(1), Tensor::scalar(2)}, 0).to_vector<double>() == Values{1, 2});
  CHECK(pad(a, 1, 1, 2, -1).to_vector<double>() == Values{-1, 1, 2, -1, -1, -1, 3, 4, -1, -1});
  CHECK(pad(a, 0, 0, 1).to_vector<double>() == Values{1, 2, 3, 4, 0, 0});
  const std::vector<Tensor> parts = split(concat({a, b}, 1), {1, 0, 2}, 1);
  REQUIRE(parts.size() == 3);
  CHECK(parts[0].to_vector<double>() == Values{1, 3});
  CHECK(parts[1].shape() == Shape{2, 0});
  CHECK(parts[2].to_vector<double>() == Values{2, 5, 4, 6});
}

TEST_CASE("concat undoes split for every dtype, axis and stride") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8}) {
    const Tensor x = packed_copy(Tensor::arange(3 * 63 * 5).alias({3, 63, 5}, {315, 5, 1}, 0), dtype);
    for (const Tensor& view : {x, transpose(x, 0, 2), slice(x, 1, 2, 60, 2)})
      for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t extent = view.size(axis);
        const std::vector<Tensor> parts = split(view, {1, extent - 2, 1}, axis);
        for (const Tensor& part : parts) CHECK(part.shares_memory_with(view));
        CHECK(bit_equal(concat(parts, axis), view));
        CHECK(bit_equal(slice(pad(view, axis, 2, 3, 7), axis, 2, 2 + extent), view));
      }
  }
}

TEST_CASE("gradients of concat, stack, split and pad") {
  const auto square = [](const Tensor& x) { return mul(x, x); };
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return square(concat({in[0], in[1], in[0]}, 1));
      },
      {variable({2, 3}, 1), variable({2, 1}, 2)});
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        return square(stack({in[0], in[1], in[0]}, 1));
      },
      {variable({2, 3}, 1), variable({2, 3}, 2)});
  check_gradients([&](const std::vector<Tensor>& in) { return square(pad(in[0], 0, 2, 1, 3)); }, {variable({2, 3})});
  check_gradients(
      [&](const std::vector<Tensor>& in) {
        const std::vector<Tensor> parts = split(square(in[0]), {2, 3, 1, 2}, 1);
        return concat({mul(parts[3], parts[0]), parts[1]}, 1);  // one part is not used
      },
      {variable({3, 8})});
}

TEST_CASE("split is one node: parts that nothing depends on get zeros") {
  const Tensor x = Tensor::ones({2, 4});
  set_requires_grad(x);
  const std::vector<Tensor> parts = split(x, {1, 2, 1}, 1);
  backward(sum(parts[1] * 3.0));
  CHECK(grad(x).to_vector<double>() == Values{0, 3, 3, 0, 0, 3, 3, 0});
}

TEST_CASE("concat and its kin say what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(concat({}, 0), "concat: the list of tensors is empty", Error);
  CHECK_THROWS_WITH_AS(concat({x, Tensor::zeros({3, 3})}, 1),
                       "concat: f32[2,3]@cpu and f32[3,3]@cpu differ beside axis 1", Error);
  CHECK_THROWS_WITH_AS(concat({x, Tensor::zeros({2})}, 1), "concat: f32[2,3]@cpu and f32[2]@cpu differ in rank", Error);
  CHECK_THROWS_AS(concat({x, Tensor::zeros({2, 3}, {.dtype = DType::f64})}, 1), Error);
  CHECK_THROWS_WITH_AS(stack({x, Tensor::zeros({2, 4})}, 0), "stack: f32[2,3]@cpu and f32[2,4]@cpu differ in shape",
                       Error);
  CHECK_THROWS_WITH_AS(stack({}, 0), "stack: the list of tensors is empty", Error);
  CHECK_THROWS_WITH_AS(split(x, {1, 1}, 1), "split: the sizes add up to 2, not to the extent of axis 1 of f32[2,3]@cpu",
                       Error);
  CHECK_THROWS_WITH_AS(split(x, {2, 2}, 1), "split: the sizes [2,2] do not divide axis 1 of f32[2,3]@cpu", Error);
  CHECK_THROWS_AS(split(x, {4, -1}, 1), Error);
  CHECK_THROWS_WITH_AS(pad(x, 0, -1, 0), "pad: -1 and 0 indices cannot be added; use slice to remove some", Error);
}
