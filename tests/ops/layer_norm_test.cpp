#include "ops/layer_norm.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor reference(const Tensor& x, const Tensor& gain, const Tensor& bias, double epsilon) {
  std::vector<double> values = x.to_vector<double>();
  const std::vector<double> g = gain.to_vector<double>();
  const std::vector<double> b = bias.defined() ? bias.to_vector<double>() : std::vector<double>(g.size());
  const auto count = static_cast<double>(g.size());
  for (std::size_t row = 0; row < values.size(); row += g.size()) {
    double mean = 0, variance = 0;
    for (std::size_t c = 0; c < g.size(); ++c) mean += values[row + c] / count;
    for (std::size_t c = 0; c < g.size(); ++c) variance += std::pow(values[row + c] - mean, 2) / count;
    for (std::size_t c = 0; c < g.size(); ++c)
      values[row + c] = (values[row + c] - mean) / std::sqrt(variance + epsilon) * g[c] + b[c];
  }
  return cast(Tensor::from(values, x.shape()), x.dtype());
}

}  // namespace

TEST_CASE("layer_norm of a row worked out by hand") {
  // mean 3, variance (4 + 0 + 4) / 3; -2/√(8/3) = -1.2247449
  const Tensor y = layer_norm(Tensor::from<double>({1, 3, 5}, {1, 3}), Tensor::from<double>({1, 1, 2}, {3}),
                              Tensor::from<double>({0, 7, 1}, {3}), 1e-14);
  CHECK(y.to_vector<double>()[0] == doctest::Approx(-1.2247448714));
  CHECK(y.to_vector<double>()[1] == doctest::Approx(7));
  CHECK(y.to_vector<double>()[2] == doctest::Approx(3.4494897428));
}

TEST_CASE("layer_norm equals the reference in every dtype and on odd shapes") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 63}, Shape{2, 5, 127}, Shape{0, 4}, Shape{40, 33}}) {
      CAPTURE(to_string(shape));
      const Shape last{shape[shape.rank() - 1]};
      const Tensor x = cast(randn(shape), dtype), gain = cast(randn(last), dtype), bias = cast(randn(last), dtype);
      check_close(layer_norm(x, gain, bias), reference(x, gain, bias, 1e-5));
      check_close(layer_norm(x, gain, Tensor(), 0.1), reference(x, gain, Tensor(), 0.1));
    }
}

TEST_CASE("layer_norm is exact for rows far from zero") {
  const Tensor x = Tensor::from<float>({10000, 10001, 10002, 10003}, {1, 4}), one = Tensor::ones({4});
  const Tensor near = Tensor::from<float>({0, 1, 2, 3}, {1, 4});
  check_close(layer_norm(x, one, Tensor()), layer_norm(near, one, Tensor()));
}

TEST_CASE("layer_norm has the right gradients, strided input included") {
  const auto f = [](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-3); };
  check_gradients(f, {variable({3, 7}, 1), variable({7}, 2), variable({7}, 3)});
  check_gradients(f, {variable({2, 9, 19}, 3), variable({19}, 4), variable({19}, 5)});
  check_gradients([](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], Tensor()); },
                  {variable({4, 5}, 1), variable({5}, 2)});
  const Tensor x = randn({5, 6}), gain = randn({5}), bias = randn({5});
  const Tensor transposed = x.alias({6, 5}, {1, 6}, 0);
  check_close(layer_norm(transposed, gain, bias), layer_norm(packed_copy(transposed), gain, bias));
}

TEST_CASE("layer_norm equals its composition of small operations") {
  check_same_function([](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-3); },
                      [](const std::vector<Tensor>& in) { return layer_norm_composed(in[0], in[1], in[2], 1e-3); },
                      {variable({2, 21, 37}, 1), variable({37}, 2), variable({37}, 3)});
}

TEST_CASE("layer_norm gives only the gradients that are wanted") {
  const Tensor x = randn({3, 4}), gain = randn({4}), bias = randn({4});
  set_requires_grad(bias);
  backward(layer_norm(x, gain, bias), Tensor::ones({3, 4}));
  CHECK(grad(bias).to_vector<float>() == std::vector<float>(4, 3.0f));
  CHECK_FALSE(grad(gain).defined());
  CHECK_FALSE(grad(x).defined());
}

TEST_CASE("layer_norm gives the same bits for any thread count") {
  const Tensor x = randn({3000, 37}), gain = randn({37}), bias = randn({37}), dy = randn({3000, 37});
  check_same_bits_for_any_thread_count([&] {
    const std::vector<Tensor> in = {packed_copy(x), packed_copy(gain), packed_copy(bias)};
    for (const Tensor& t : in) set_requires_grad(t);
    const Tensor y = layer_norm(in[0], in[1], in[2]);
    backward(y, dy);
    return std::vector<Tensor>{y, grad(in[0]), grad(in[1]), grad(in[2])};
  });
}

TEST_CASE("layer_norm of rows of every length that a GPU treats in its own way") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{19, 32}, Shape{9, 256}, Shape{3, 1040}, Shape{2, 1030}, Shape{1, 8208}}) {
      CAPTURE(to_string(shape));
      const Shape last{shape[1]};
      const Tensor x = cast(randn(shape), dtype), gain = cast(randn(last), dtype), bias = cast(randn(last), dtype);
      check_close(layer_norm(x, gain, bias), reference(x, gain, bias, 1e-5));
    }
  for (const Shape& shape : {Shape{33, 4}, Shape{9, 34}, Shape{5, 258}, Shape{3, 1031}, Shape{2, 2056}})
    check_same_function([](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-3); },
                        [](const std::vector<Tensor>& in) { return layer_norm_composed(in[0], in[1], in[2], 1e-3); },
                        {variable(shape, 1), variable({shape[1]}, 2), variable({shape[1]}, 3)});
}

TEST_CASE("layer_norm says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 4}), gain = Tensor::ones({4});
  CHECK_THROWS_WITH_AS(layer_norm(x, Tensor::zeros({3}), Tensor()),
                       "layer_norm: gain f32[3]@cpu does not fit the last axis of f32[2,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(layer_norm(x, gain, Tensor::zeros({2})),
                       "layer_norm: bias f32[2]@cpu does not have the shape of gain f32[4]@cpu", Error);
  CHECK_THROWS_WITH_AS(layer_norm(x, gain, Tensor(), -1), "layer_norm: epsilon -1 is not positive", Error);
  CHECK_THROWS_WITH_AS(layer_norm(Tensor::zeros({2, 0}), Tensor::zeros({0}), Tensor()),
                       "layer_norm: f32[2,0]@cpu has no columns", Error);
  CHECK_THROWS_AS(layer_norm(x, gain, Tensor::zeros({4}, {.dtype = DType::f64})), Error);
}
