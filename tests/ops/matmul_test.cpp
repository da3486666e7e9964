#include "ops/matmul.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

/// Σ_k a[..,m,k]·b[..,k,n] by broadcasting both to [..,m,k,n].
Tensor reference(const Tensor& a, const Tensor& b) {
  return sum(unsqueeze(cast(a, DType::f64), -1) * unsqueeze(cast(b, DType::f64), -3), {-2});
}

Tensor flipped(const Tensor& x) { return contiguous(transpose(x, -1, -2)); }

const std::vector<std::pair<Shape, Shape>>& shapes() {
  static const std::vector<std::pair<Shape, Shape>> list{{{1, 1}, {1, 1}},
                                                         {{3, 5}, {5, 7}},
                                                         {{1, 63}, {63, 1}},
                                                         {{17, 1}, {1, 9}},
                                                         {{4, 3, 5}, {5, 2}},
                                                         {{2, 3, 4, 5}, {5, 6}},
                                                         {{2, 1, 3, 4}, {1, 3, 4, 2}},
                                                         {{3, 4}, {5, 4, 2}},
                                                         {{4, 1, 5}, {5, 3}},
                                                         {{2, 3, 4, 5}, {2, 3, 5, 1}},
                                                         {{0, 5}, {5, 3}},
                                                         {{2, 0}, {0, 3}},
                                                         {{3, 2, 5}, {3, 5, 0}},
                                                         {{1, 2, 3, 2, 4}, {2, 1, 4, 3}}};
  return list;
}

}  // namespace

TEST_CASE("matmul of two small matrices worked out by hand") {
  const Tensor a = Tensor::from<double>({1, 2, 3, 4}, {2, 2}), b = Tensor::from<double>({5, 6, 7, 8}, {2, 2});
  CHECK(matmul(a, b).to_vector<double>() == std::vector<double>{19, 22, 43, 50});
}

TEST_CASE("matmul equals the reference in every dtype, batched and broadcast") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& pair : shapes()) {
      const Shape &first = pair.first, &second = pair.second;
      CAPTURE(to_string(first));
      CAPTURE(to_string(second));
      const Tensor a = cast(randn(first), dtype), b = cast(randn(second), dtype), wanted = reference(a, b);
      const Tensor c = matmul(a, b);
      CHECK(c.dtype() == dtype);
      CHECK(c.is_contiguous());
      check_close(c, wanted);
      // the same matrices stored the other way round
      check_close(matmul(transpose(flipped(a), -1, -2), b), wanted);
      check_close(matmul(a, transpose(flipped(b), -1, -2)), wanted);
      check_close(matmul(transpose(flipped(a), -1, -2), transpose(flipped(b), -1, -2)), wanted);
    }
}

TEST_CASE("matmul reads views of any strides") {
  const Tensor x = randn({4, 6, 3, 8});                           // [B,T,H,D]
  const Tensor heads = transpose(x, 1, 2);                        // [B,H,T,D]
  const Tensor scores = matmul(heads, transpose(heads, -1, -2));  // [B,H,T,T]
  check_close(scores, reference(packed_copy(heads), packed_copy(transpose(heads, -1, -2))));
  const Tensor weight = randn({8, 5});
  check_close(matmul(heads, weight), reference(heads, weight));
  check_close(matmul(slice(heads, 3, 0, 8, 2), slice(weight, 0, 0, 4)),
              reference(slice(heads, 3, 0, 8, 2), slice(weight, 0, 0, 4)));
  check_close(matmul(slice(x, 1, 5, 6), weight), reference(slice(x, 1, 5, 6), weight));
  const Tensor row = randn({1, 8});
  check_close(matmul(expand(row, {3, 7, 8}), weight), expand(matmul(row, weight), {3, 7, 5}));
}

TEST_CASE("gradients of matmul") {
  const auto f = [](const std::vector<Tensor>& in) { return matmul(in[0], in[1]); };
  for (const auto& pair : shapes()) {
    const Shape &first = pair.first, &second = pair.second;
    CAPTURE(to_string(first));
    CAPTURE(to_string(second));
    check_gradients(f, {variable(first, 1), variable(second, 2)});
  }
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return matmul(transpose(in[0], 0, 1), slice(transpose(in[1], 1, 2), 1, 0, 5));
      },
      {variable({5, 2}, 1), variable({3, 4, 6}, 2)});
  // a matrix times itself, and an upstream gradient that is one repeated number
  check_gradients([](const std::vector<Tensor>& in) { return sum(matmul(in[0], in[0])); }, {variable({4, 4})});
}

TEST_CASE("a weight used through a transposed view gets a row-major gradient") {
  const Tensor x = randn({2, 3, 5}), weight = randn({4, 5}), dy = randn({2, 3, 4});
  set_requires_grad(weight);
  backward(matmul(x, transpose(weight, 0, 1)), dy);
  CHECK(grad(weight).is_contiguous());
  check_close(grad(weight), reference(transpose(reshape(dy, {6, 4}), 0, 1), reshape(x, {6, 5})));
}

TEST_CASE("gradients of 16-bit products come back in their dtype") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor a = cast(randn({2, 9, 16}), dtype), w = cast(randn({16, 5}), dtype);
    const Tensor dy = cast(randn({2, 9, 5}), dtype);
    set_requires_grad(a);
    set_requires_grad(w);
    backward(matmul(a, w), dy);
    check_close(grad(a), reference(dy, transpose(detach(w), 0, 1)));
    check_close(grad(w), reference(transpose(reshape(detach(a), {18, 16}), 0, 1), reshape(dy, {18, 5})));
  }
}

TEST_CASE("linear is a product with the transposed weight, plus bias") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{7}, Shape{1, 7}, Shape{2, 5, 7}, Shape{0, 7}, Shape{3, 0}, Shape{2, 1, 3, 33}}) {
      CAPTURE(to_string(shape));
      const std::int64_t in = shape[shape.rank() - 1];
      const Tensor x = cast(randn(shape), dtype), w = cast(randn({4, in}), dtype), b = cast(randn({4}), dtype);
      const Tensor rows = shape.rank() == 1 ? unsqueeze(x, 0) : x;
      Shape result = shape;
      result[shape.rank() - 1] = 4;
      const Tensor wanted = reshape(reference(rows, transpose(w, 0, 1)), result);
      check_close(linear(x, w), wanted);
      check_close(linear(x, w, b), wanted + cast(b, DType::f64));
    }
  const Tensor x = randn({3, 6, 10}), w = randn({4, 10}), b = randn({8});
  check_close(linear(transpose(x, 0, 1), w), reference(transpose(x, 0, 1), transpose(w, 0, 1)));
  check_close(linear(slice(x, 1, 5, 6), w, slice(b, 0, 0, 8, 2)),
              reference(slice(x, 1, 5, 6), transpose(w, 0, 1)) + cast(slice(b, 0, 0, 8, 2), DType::f64));
}

TEST_CASE("gradients of linear") {
  const auto f = [](const std::vector<Tensor>& in) { return linear(in[0], in[1], in.size() > 2 ? in[2] : Tensor()); };
  check_gradients(f, {variable({3, 5}, 1), variable({4, 5}, 2), variable({4}, 3)});
  check_gradients(f, {variable({2, 3, 5}, 1), variable({4, 5}, 2)});
  check_gradients(f, {variable({5}, 1), variable({1, 5}, 2), variable({1}, 3)});
  check_gradients(f, {variable({0, 5}, 1), variable({2, 5}, 2), variable({2}, 3)});
  check_gradients(
      [](const std::vector<Tensor>& in) { return linear(transpose(in[0], 0, 1), transpose(in[1], 0, 1), in[2]); },
      {variable({2, 3, 5}, 1), variable({5, 4}, 2), variable({4}, 3)});
}

TEST_CASE("products give the same bits for any thread count") {
  const Tensor x = randn({150, 200}), w = randn({90, 200}), b = randn({90}), dy = randn({150, 90});
  std::vector<std::vector<Tensor>> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    const Tensor input = packed_copy(x), weight = packed_copy(w), bias = packed_copy(b);
    for (const Tensor& leaf : {input, weight, bias}) set_requires_grad(leaf);
    const Tensor y = linear(input, weight, bias);
    backward(y, dy);
    results.push_back({detach(y), grad(input), grad(weight), grad(bias)});
  }
  cpu::set_thread_count(threads);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    CHECK(bit_equal(results[0][i], results[1][i]));
    CHECK(bit_equal(results[0][i], results[2][i]));
  }
}

TEST_CASE("products say what is wrong" * doctest::test_suite("cpu")) {
  CHECK_THROWS_WITH_AS(matmul(Tensor::zeros({4, 8}), Tensor::zeros({6, 2})),
                       "matmul: [4,8] x [6,2]: inner sizes 8 and 6 differ", Error);
  CHECK_THROWS_WITH_AS(matmul(Tensor::zeros({4}), Tensor::zeros({4, 2})),
                       "matmul: [4] x [4,2]: both need at least two axes", Error);
  CHECK_THROWS_WITH_AS(matmul(Tensor::zeros({2, 3, 4}), Tensor::zeros({3, 4, 5})),
                       "matmul: shapes [2] and [3] do not broadcast: extents 2 and 3 differ", Error);
  CHECK_THROWS_WITH_AS(
      matmul(Tensor::zeros({2, 2}, {.dtype = DType::i64}), Tensor::zeros({2, 2}, {.dtype = DType::i64})),
      "matmul: dtype i64 is not supported; use a float dtype", Error);
  CHECK_THROWS_AS(matmul(Tensor::zeros({2, 2}), Tensor::zeros({2, 2}, {.dtype = DType::f64})), Error);
  CHECK_THROWS_WITH_AS(linear(Tensor::zeros({4, 8}), Tensor::zeros({8, 6})),
                       "linear: weight f32[8,6]@cpu, which is [out,in], does not fit the last axis of f32[4,8]@cpu",
                       Error);
  CHECK_THROWS_WITH_AS(linear(Tensor::zeros({4, 8}), Tensor::zeros({6, 8}), Tensor::zeros({8})),
                       "linear: bias f32[8]@cpu does not fit weight f32[6,8]@cpu", Error);
}
