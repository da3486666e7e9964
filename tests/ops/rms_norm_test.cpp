#include "ops/rms_norm.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor reference(const Tensor& x, const Tensor& gain, double epsilon) {
  std::vector<double> values = x.to_vector<double>();
  const std::vector<double> g = gain.to_vector<double>();
  for (std::size_t row = 0; row < values.size(); row += g.size()) {
    double squares = 0;
    for (std::size_t c = 0; c < g.size(); ++c) squares += values[row + c] * values[row + c];
    const double r = 1 / std::sqrt(squares / static_cast<double>(g.size()) + epsilon);
    for (std::size_t c = 0; c < g.size(); ++c) values[row + c] *= r * g[c];
  }
  return cast(Tensor::from(values, x.shape()), x.dtype());
}

}  // namespace

TEST_CASE("rms_norm of a row worked out by hand") {
  // mean of squares (9 + 16) / 2 = 12.5; 3/√12.5 and 4/√12.5 times the gains 1 and 2
  const Tensor y = rms_norm(Tensor::from<double>({3, 4}, {1, 2}), Tensor::from<double>({1, 2}, {2}), 1e-12);
  CHECK(y.to_vector<double>()[0] == doctest::Approx(0.848528137));
  CHECK(y.to_vector<double>()[1] == doctest::Approx(2.262741700));
}

TEST_CASE("rms_norm equals the reference in every dtype and on odd shapes") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 63}, Shape{2, 5, 127}, Shape{0, 4}, Shape{40, 33}}) {
      CAPTURE(to_string(shape));
      const Tensor x = cast(randn(shape), dtype), gain = cast(randn({shape[shape.rank() - 1]}), dtype);
      check_close(rms_norm(x, gain, 1e-5), reference(x, gain, 1e-5));
    }
}

TEST_CASE("rms_norm has the right gradients, strided input included") {
  const auto f = [](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-3); };
  check_gradients(f, {variable({3, 7}, 1), variable({7}, 2)});
  check_gradients(f, {variable({2, 3, 19}, 3), variable({19}, 4)});
  const Tensor x = randn({5, 6}), gain = randn({5});
  const Tensor transposed = x.alias({6, 5}, {1, 6}, 0);
  check_close(rms_norm(transposed, gain), rms_norm(packed_copy(transposed), gain));
}

TEST_CASE("rms_norm equals its composition of small operations") {
  check_same_function([](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-3); },
                      [](const std::vector<Tensor>& in) { return rms_norm_composed(in[0], in[1], 1e-3); },
                      {variable({2, 21, 37}, 1), variable({37}, 2)});
}

TEST_CASE("rms_norm gives the same bits for any thread count") {
  const Tensor x = randn({100, 37}), gain = randn({37}), dy = randn({100, 37});
  std::vector<Tensor> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    const Tensor weight = packed_copy(gain);
    set_requires_grad(weight);
    backward(rms_norm(x, weight), dy);
    results.push_back(grad(weight));
  }
  cpu::set_thread_count(threads);
  CHECK(bit_equal(results[0], results[1]));
  CHECK(bit_equal(results[0], results[2]));
}

TEST_CASE("rms_norm of rows of every length that a GPU treats in its own way") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{19, 32}, Shape{9, 256}, Shape{3, 1040}, Shape{2, 1030}, Shape{1, 8208}}) {
      CAPTURE(to_string(shape));
      const Shape last{shape[1]};
      const Tensor x = cast(randn(shape), dtype), gain = cast(randn(last), dtype);
      check_close(rms_norm(x, gain, 1e-5), reference(x, gain, 1e-5));
    }
  for (const Shape& shape : {Shape{33, 4}, Shape{9, 34}, Shape{5, 258}, Shape{3, 1031}, Shape{2, 2056}})
    check_same_function([](const std::vector<Tensor>& in) { return rms_norm(in[0], in[1], 1e-3); },
                        [](const std::vector<Tensor>& in) { return rms_norm_composed(in[0], in[1], 1e-3); },
                        {variable(shape, 1), variable({shape[1]}, 2)});
}

TEST_CASE("rms_norm says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 4});
  CHECK_THROWS_WITH_AS(rms_norm(x, Tensor::zeros({3})),
                       "rms_norm: gain f32[3]@cpu does not fit the last axis of f32[2,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(rms_norm(x, Tensor::zeros({4}), 0), "rms_norm: epsilon 0 is not positive", Error);
  CHECK_THROWS_AS(rms_norm(x, Tensor::zeros({4}, {.dtype = DType::f64})), Error);
  CHECK_THROWS_AS(rms_norm(Tensor::zeros({2, 0}), Tensor::zeros({0})), Error);
}
