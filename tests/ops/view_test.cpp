#include "ops/view.h"

#include "autograd/engine.h"
#include "ops/elementwise.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor counting(const Shape& shape) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  return Tensor::from(values, shape);
}

}  // namespace

TEST_CASE("reshape is a view whenever strides permit it") {
  const Tensor x = counting({2, 3, 4});
  CHECK(reshape(x, {6, 4}).shares_memory_with(x));
  CHECK(reshape(x, {-1}).shape() == Shape{24});
  CHECK(reshape(x, {2, -1, 2}).shape() == Shape{2, 6, 2});
  CHECK(reshape(x, {2, -1, 2}).to_vector<double>() == x.to_vector<double>());
  const Tensor moved = transpose(x, 0, 1);  // [3,2,4]: the last axis may be cut, the first two cannot be merged
  CHECK(reshape(moved, {3, 2, 2, 2}).shares_memory_with(x));
  CHECK(reshape(moved, {3, 2, 2, 2}).to_vector<double>() == moved.to_vector<double>());
  CHECK_FALSE(reshape(moved, {6, 4}).shares_memory_with(x));
  CHECK(reshape(moved, {6, 4}).to_vector<double>() == moved.to_vector<double>());
  CHECK(reshape(moved, {3, 1, 8}).shape() == Shape{3, 1, 8});
  const Tensor part = slice(x, 2, 0, 2);  // rows of two with gaps
  CHECK(reshape(part, {6, 1, 2}).shares_memory_with(x));
  CHECK_FALSE(reshape(part, {12}).shares_memory_with(x));
  CHECK(reshape(part, {3, 4}).to_vector<double>() == part.to_vector<double>());
  CHECK(reshape(counting({1, 1}), Shape{}).item() == 0);
  CHECK(reshape(Tensor::zeros({0, 3}), {3, 0, 2}).shape() == Shape{3, 0, 2});
}

TEST_CASE("views of a counting tensor, worked out by hand") {
  const Tensor x = counting({2, 3});  // 0 1 2 / 3 4 5
  using Values = std::vector<double>;
  CHECK(transpose(x, 0, -1).to_vector<double>() == Values{0, 3, 1, 4, 2, 5});
  CHECK(permute(counting({2, 1, 3}), {2, 0, 1}).to_vector<double>() == Values{0, 3, 1, 4, 2, 5});
  CHECK(slice(x, 1, 0, 3, 2).to_vector<double>() == Values{0, 2, 3, 5});
  CHECK(slice(x, -1, -2, 3).to_vector<double>() == Values{1, 2, 4, 5});
  CHECK(slice(x, 0, 1, 1).shape() == Shape{0, 3});
  CHECK(select(x, 1, -1).to_vector<double>() == Values{2, 5});
  CHECK(expand(x, {2, 2, 3}).to_vector<double>() == Values{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5});
  CHECK(expand(select(x, 1, 0), {1, 2}).to_vector<double>() == Values{0, 3});
  CHECK(unsqueeze(x, -1).shape() == Shape{2, 3, 1});
  CHECK(unsqueeze(x, 0).is_contiguous());
  CHECK(squeeze(unsqueeze(x, 1), 1).shape() == x.shape());
  CHECK(contiguous(x).shares_memory_with(x));
  CHECK(contiguous(transpose(x, 0, 1)).is_contiguous());
  for (const Tensor& view : {transpose(x, 0, 1), slice(x, 1, 1, 2), select(x, 0, 1), expand(x, {4, 2, 3})})
    CHECK(view.shares_memory_with(x));
}

TEST_CASE("views exist for every dtype") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8}) {
    const Tensor x = packed_copy(counting({3, 4}), dtype);
    CHECK(reshape(transpose(slice(x, 1, 1, 3), 0, 1), {6}).to_vector<double>() ==
          std::vector<double>{1, 5, 9, 2, 6, 10});
  }
}

TEST_CASE("gradients of views") {
  const auto check = [](const std::function<Tensor(const Tensor&)>& view, const Shape& shape) {
    // a product with itself makes the gradient depend on the values and on where they ended up
    check_gradients([&](const std::vector<Tensor>& in) { return mul(view(in[0]), view(in[0])); }, {variable(shape)});
  };
  check([](const Tensor& x) { return reshape(x, {3, 4}); }, {2, 6});
  check([](const Tensor& x) { return reshape(transpose(x, 0, 1), {-1}); }, {2, 3});
  check([](const Tensor& x) { return contiguous(permute(x, {2, 0, 1})); }, {2, 3, 2});
  check([](const Tensor& x) { return slice(x, 1, 1, 6, 2); }, {2, 7});
  check([](const Tensor& x) { return slice(x, 0, 0, 0); }, {2, 2});
  check([](const Tensor& x) { return select(x, 0, 1); }, {3, 2});
  check([](const Tensor& x) { return expand(x, {3, 2, 4}); }, {2, 1});
  check([](const Tensor& x) { return squeeze(unsqueeze(x, 0), 2); }, {2, 1, 3});
}

TEST_CASE("views are not recorded where nothing needs a gradient") {
  const Tensor x = Tensor::zeros({2, 2});
  CHECK_FALSE(requires_grad(transpose(x, 0, 1)));
  set_requires_grad(x);
  CHECK(requires_grad(transpose(x, 0, 1)));
  const NoGrad unrecorded;
  CHECK_FALSE(requires_grad(reshape(x, {4})));
}

TEST_CASE("views say what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(reshape(x, {4, -1}), "reshape: f32[2,3]@cpu of 6 elements cannot take the shape [4,-1]", Error);
  CHECK_THROWS_WITH_AS(reshape(x, {-1, -1}), "reshape: [-1,-1] has more than one -1", Error);
  CHECK_THROWS_AS(reshape(x, {-2, -3}), Error);
  CHECK_THROWS_AS(reshape(x, {7}), Error);
  CHECK_THROWS_WITH_AS(slice(x, 1, 1, 4), "slice: 1:4 is not a range of axis 1 of f32[2,3]@cpu", Error);
  CHECK_THROWS_AS(slice(x, 1, 2, 1), Error);
  CHECK_THROWS_WITH_AS(slice(x, 1, 0, 3, 0), "slice: a step of 0 is less than 1", Error);
  CHECK_THROWS_WITH_AS(select(x, 0, 2), "select: index 2 is out of range for axis 0 of f32[2,3]@cpu", Error);
  CHECK_THROWS_WITH_AS(permute(x, {0, 0}), "permute: axis 0 of f32[2,3]@cpu is named twice", Error);
  CHECK_THROWS_WITH_AS(permute(x, {0}), "permute: 1 axes are given for f32[2,3]@cpu", Error);
  CHECK_THROWS_WITH_AS(squeeze(x, 0), "squeeze: axis 0 of f32[2,3]@cpu has an extent other than 1", Error);
  CHECK_THROWS_WITH_AS(expand(x, {2, 4}), "expand: shapes [2,3] and [2,4] do not broadcast: extents 3 and 4 differ",
                       Error);
  CHECK_THROWS_WITH_AS(expand(Tensor::zeros({2, 3}), {1, 3}), "expand: f32[2,3]@cpu does not broadcast to [1,3]",
                       Error);
  CHECK_THROWS_AS(transpose(x, 0, 2), Error);
  CHECK_THROWS_AS(select(x, 2, 0), Error);
}
