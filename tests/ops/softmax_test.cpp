#include "ops/softmax.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

/// Along the last axis.
Tensor reference(const Tensor& x, bool log) {
  std::vector<double> values = x.to_vector<double>();
  const auto columns = static_cast<std::size_t>(x.size(-1));
  for (std::size_t row = 0; row < values.size(); row += columns) {
    const double shift = *std::max_element(&values[row], &values[row] + columns);
    double total = 0;
    for (std::size_t c = 0; c < columns; ++c) total += std::exp(values[row + c] - shift);
    for (std::size_t c = 0; c < columns; ++c) {
      const double y = values[row + c] - shift - std::log(total);
      values[row + c] = log ? y : std::exp(y);
    }
  }
  return cast(Tensor::from(values, x.shape()), x.dtype());
}

}  // namespace

TEST_CASE("softmax of values worked out by hand") {
  const Tensor x = Tensor::from<double>({0, std::log(2), std::log(5)}, {3});
  const std::vector<double> y = softmax(x).to_vector<double>();
  CHECK(y[0] == doctest::Approx(0.125));
  CHECK(y[1] == doctest::Approx(0.25));
  CHECK(y[2] == doctest::Approx(0.625));
  CHECK(log_softmax(x).to_vector<double>()[0] == doctest::Approx(std::log(0.125)));
}

TEST_CASE("softmax and log_softmax equal the reference in every dtype and on odd shapes") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1}, Shape{3, 63}, Shape{2, 5, 127}, Shape{0, 4}, Shape{4, 0}, Shape{2, 1001}}) {
      CAPTURE(to_string(shape));
      Tensor x = randn(shape);
      x = x * 8;
      x = cast(x, dtype);
      if (x.numel() == 0) {
        CHECK(softmax(x).shape() == shape);
        continue;
      }
      check_close(softmax(x), reference(x, false));
      check_close(log_softmax(x), reference(x, true));
    }
}

TEST_CASE("softmax in f64 is accurate to the last digits") {
  const Tensor x = randn({7, 50}, {.dtype = DType::f64});
  CHECK(relative_error(softmax(x), reference(x, false)) < 1e-14);
  CHECK(relative_error(log_softmax(x), reference(x, true)) < 1e-14);
}

TEST_CASE("softmax along an inner axis equals softmax of the transposed tensor") {
  const Tensor x = randn({3, 5, 4});
  const Tensor moved = packed_copy(x.alias({3, 4, 5}, {20, 1, 4}, 0));
  const Tensor y = softmax(x, 1), z = softmax(moved);
  check_close(y, z.alias({3, 5, 4}, {20, 1, 5}, 0));
}

TEST_CASE("softmax survives huge and infinite values") {
  const float inf = INFINITY;
  const Tensor x =
      Tensor::from<float>({1e30f, -1e30f, 1e30f, -inf, 0, 1, -inf, -inf, -inf, 0, inf, 1, 0, NAN, 1}, {5, 3});
  const std::vector<float> y = softmax(x).to_vector<float>(), l = log_softmax(x).to_vector<float>();
  CHECK(y[0] == 0.5f);
  CHECK(y[1] == 0.0f);
  CHECK(y[3] == 0.0f);
  CHECK(l[3] == -inf);
  CHECK(y[4] == doctest::Approx(0.26894142));
  for (std::size_t i = 6; i < 15; ++i) {
    CHECK(std::isnan(y[i]));
    CHECK(std::isnan(l[i]));
  }
}

TEST_CASE("softmax and log_softmax have the right gradients along any axis") {
  for (const int axis : {0, 1, -1}) {
    CAPTURE(axis);
    check_gradients([axis](const std::vector<Tensor>& in) { return softmax(in[0], axis); }, {variable({3, 2, 19})});
    check_gradients([axis](const std::vector<Tensor>& in) { return log_softmax(in[0], axis); }, {variable({3, 2, 19})});
  }
  // Adding a constant to a row changes nothing, so each row's gradient sums to zero.
  const Tensor x = variable({2, 9});
  backward(softmax(x), randn({2, 9}, {.dtype = DType::f64}));
  double total = 0;
  for (const double v : grad(x).to_vector<double>()) total += v;
  CHECK(total == doctest::Approx(0).epsilon(1e-14));
}

TEST_CASE("softmax and log_softmax equal their compositions of small operations") {
  for (const int axis : {0, -1}) {
    check_same_function([axis](const std::vector<Tensor>& in) { return softmax(in[0], axis); },
                        [axis](const std::vector<Tensor>& in) { return softmax_composed(in[0], axis); },
                        {variable({21, 37})});
    check_same_function([axis](const std::vector<Tensor>& in) { return log_softmax(in[0], axis); },
                        [axis](const std::vector<Tensor>& in) { return log_softmax_composed(in[0], axis); },
                        {variable({21, 37})});
  }
}

TEST_CASE("softmax gives the same bits for any thread count") {
  const Tensor x = randn({500, 77}), dy = randn({500, 77});
  check_same_bits_for_any_thread_count([&] {
    const Tensor leaf = packed_copy(x);
    set_requires_grad(leaf);
    const Tensor y = log_softmax(leaf);
    backward(y, dy);
    return std::vector<Tensor>{softmax(x), y, grad(leaf)};
  });
}

TEST_CASE("softmax says what is wrong" * doctest::test_suite("cpu")) {
  CHECK_THROWS_WITH_AS(softmax(Tensor::arange(3)), "softmax: i64[3]@cpu does not hold floats", Error);
  CHECK_THROWS_AS(log_softmax(Tensor::zeros({2, 2}), 2), Error);
  CHECK_THROWS_AS(softmax(Tensor::scalar(1)), Error);
}
