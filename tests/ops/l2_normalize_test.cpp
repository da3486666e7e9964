#include "ops/l2_normalize.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"

#include <limits>

using namespace sq;
using namespace sq::test;

namespace {

Tensor reference(const Tensor& x, double epsilon) {
  std::vector<double> values = x.to_vector<double>();
  const auto columns = static_cast<std::size_t>(x.size(-1));
  for (std::size_t row = 0; row < values.size(); row += columns) {
    double squares = 0;
    for (std::size_t c = 0; c < columns; ++c) squares += values[row + c] * values[row + c];
    for (std::size_t c = 0; c < columns; ++c) values[row + c] /= std::max(std::sqrt(squares), epsilon);
  }
  return cast(Tensor::from(values, x.shape()), x.dtype());
}

}  // namespace

TEST_CASE("l2_normalize of rows worked out by hand") {
  const Tensor y = l2_normalize(Tensor::from<double>({3, 4, 0, 0, 0.3, 0.4}, {3, 2}), 1);
  CHECK(y.to_vector<double>()[0] == doctest::Approx(0.6));
  CHECK(y.to_vector<double>()[1] == doctest::Approx(0.8));
  CHECK(y.to_vector<double>()[2] == 0);
  CHECK(y.to_vector<double>()[4] == doctest::Approx(0.3));  // shorter than epsilon: divided by epsilon
}

TEST_CASE("l2_normalize equals the reference in every dtype and on rows of every length") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 63}, Shape{2, 5, 127}, Shape{0, 4}, Shape{40, 33}, Shape{19, 64},
                               Shape{9, 256}, Shape{3, 1040}, Shape{2, 1031}}) {
      CAPTURE(to_string(shape));
      const Tensor x = cast(randn(shape), dtype);
      check_close(l2_normalize(x), reference(x, 1e-12));
    }
}

TEST_CASE("l2_normalize has the right gradients, below epsilon and on strided input too") {
  const auto f = [](const std::vector<Tensor>& in) { return l2_normalize(in[0]); };
  check_gradients(f, {variable({3, 7}, 1)});
  check_gradients(f, {variable({2, 3, 20}, 2)});
  check_gradients([](const std::vector<Tensor>& in) { return l2_normalize(in[0], 100); }, {variable({4, 5}, 3)});
  const Tensor x = randn({5, 6});
  const Tensor transposed = x.alias({6, 5}, {1, 6}, 0);
  check_close(l2_normalize(transposed), l2_normalize(packed_copy(transposed)));
}

TEST_CASE("l2_normalize equals its composition of small operations") {
  for (const Shape& shape : {Shape{2, 21, 37}, Shape{33, 4}, Shape{5, 258}, Shape{3, 1031}, Shape{2, 2056}})
    check_same_function(
        [](const std::vector<Tensor>& in) { return l2_normalize(in[0]); },
        [](const std::vector<Tensor>& in) { return in[0] / maximum(sqrt(sum(in[0] * in[0], {-1}, true)), 1e-12); },
        {variable(shape, 1)});
}

TEST_CASE("l2_normalize of zeros is zero, with finite gradients, and a NaN stays in its row") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = Tensor::zeros({3, 8}, {.dtype = dtype});
    set_requires_grad(x);
    const Tensor y = l2_normalize(x);
    CHECK(bit_equal(y, Tensor::zeros_like(y)));
    backward(y, Tensor::ones(y.shape(), y.options()));
    CHECK(all_finite(grad(x)));
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const Tensor z = l2_normalize(cast(Tensor::from<double>({nan, 1, 3, 4}, {2, 2}), dtype));
    CHECK(std::isnan(z.to_vector<double>()[1]));
    CHECK(z.to_vector<double>()[3] == doctest::Approx(0.8));
  }
}

TEST_CASE("l2_normalize gives the same bits for any thread count") {
  const Tensor x = randn({1000, 37}), dy = randn({1000, 37});
  std::vector<Tensor> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    const Tensor leaf = packed_copy(x);
    set_requires_grad(leaf);
    backward(l2_normalize(leaf), dy);
    results.push_back(grad(leaf));
  }
  cpu::set_thread_count(threads);
  CHECK(bit_equal(results[0], results[1]));
  CHECK(bit_equal(results[0], results[2]));
}

TEST_CASE("l2_normalize says what is wrong" * doctest::test_suite("cpu")) {
  CHECK_THROWS_WITH_AS(l2_normalize(Tensor::zeros({2, 0})), "l2_normalize: f32[2,0]@cpu has no columns", Error);
  CHECK_THROWS_WITH_AS(l2_normalize(Tensor::zeros({2, 4}), 0), "l2_normalize: epsilon 0 is not between 1e-30 and 1e30",
                       Error);
  CHECK_THROWS_AS(l2_normalize(Tensor::zeros({2, 4}, {.dtype = DType::i64})), Error);
}
