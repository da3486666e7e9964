#include "ops/rope.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor reference(const Tensor& x, const Tensor& positions, double base) {
  const std::vector<double> in = x.to_vector<double>();
  std::vector<double> out = in;
  const std::vector<std::int64_t> t = positions.to_vector<std::int64_t>();
  const auto [B, H, T, D] = std::array{x.size(0), x.size(1), x.size(2), x.size(3)};
  for (std::int64_t row = 0; row < B * H * T; ++row) {
    const std::int64_t place = positions.rank() == 1 ? row % T : row / (H * T) * T + row % T;
    for (std::int64_t m = 0; m < D / 2; ++m) {
      const double angle = static_cast<double>(t[static_cast<std::size_t>(place)]) *
                           std::pow(base, -2.0 * static_cast<double>(m) / static_cast<double>(D));
      const auto i = static_cast<std::size_t>(row * D + m), j = i + static_cast<std::size_t>(D / 2);
      out[i] = in[i] * std::cos(angle) - in[j] * std::sin(angle);
      out[j] = in[j] * std::cos(angle) + in[i] * std::sin(angle);
    }
  }
  return cast(Tensor::from(out, x.shape()), x.dtype());
}

}  // namespace

TEST_CASE("rope turns a pair by its angle") {
  const Tensor x = Tensor::from<double>({1, 0, 0, 1, 3, 4}, {1, 1, 3, 2});
  const std::vector<double> y = rope(x, Tensor::from<std::int64_t>({0, 1, 2}, {3})).to_vector<double>();
  CHECK(y[0] == 1);
  CHECK(y[1] == 0);
  CHECK(y[2] == doctest::Approx(-std::sin(1)));
  CHECK(y[3] == doctest::Approx(std::cos(1)));
  CHECK(y[4] == doctest::Approx(3 * std::cos(2) - 4 * std::sin(2)));
  CHECK(y[5] == doctest::Approx(4 * std::cos(2) + 3 * std::sin(2)));
}

TEST_CASE("rope equals the reference in every dtype, on odd shapes and for any positions") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1, 1, 1, 2}, Shape{2, 3, 17, 10}, Shape{1, 2, 130, 66}, Shape{0, 1, 4, 4},
                               Shape{2, 2, 0, 4}, Shape{1, 1, 3, 0}}) {
      CAPTURE(to_string(shape));
      const Tensor x = cast(randn(shape), dtype);
      const Tensor positions = Tensor::arange(shape[2]);
      check_close(rope(x, positions), reference(x, positions, 10000));
      if (shape[0] == 0) continue;
      std::vector<std::int64_t> scattered;
      for (std::int64_t i = 0; i < shape[0] * shape[2]; ++i) scattered.push_back((i * 7919) % 5003 - 20);
      const Tensor rows = Tensor::from(scattered, {shape[0], shape[2]});
      check_close(rope(x, rows, 500), reference(x, rows, 500));
    }
}

TEST_CASE("rope's angles are rounded once, far from the origin too") {
  const Tensor x = Tensor::ones({1, 1, 3, 64}, {.dtype = DType::f64});
  const Tensor positions = Tensor::from<std::int64_t>({4095, 131071, 1000003}, {3});
  CHECK(relative_error(rope(x, positions), reference(x, positions, 10000)) < 1e-9);
  const Tensor single = rope(cast(x, DType::f32), positions);
  CHECK(relative_error(cast(single, DType::f64), reference(x, positions, 10000)) < 1.5e-7);
}

TEST_CASE("rope gives a position the same bits whatever stands beside it") {
  const Tensor x = randn({1, 2, 200, 32});
  const Tensor all = rope(x, Tensor::arange(200));
  for (const std::int64_t t : {0, 63, 64, 199}) {
    const Tensor one = rope(x.alias({1, 2, 1, 32}, x.strides(), t * 32), Tensor::from<std::int64_t>({t}, {1}));
    CHECK(bit_equal(one, packed_copy(all.alias({1, 2, 1, 32}, all.strides(), t * 32))));
  }
}

TEST_CASE("rope makes scores depend on the distance alone") {
  const Tensor q = randn({1, 1, 1, 16}, {.dtype = DType::f64}), k = randn({1, 1, 1, 16}, {.dtype = DType::f64});
  const auto score = [&](std::int64_t i, std::int64_t j) {
    const std::vector<double> a = rope(q, Tensor::from<std::int64_t>({i}, {1})).to_vector<double>();
    const std::vector<double> b = rope(k, Tensor::from<std::int64_t>({j}, {1})).to_vector<double>();
    double total = 0;
    for (std::size_t c = 0; c < a.size(); ++c) total += a[c] * b[c];
    return total;
  };
  CHECK(score(3, 1) == doctest::Approx(score(1002, 1000)).epsilon(1e-10));
  CHECK(score(3, 1) == doctest::Approx(score(-5, -7)).epsilon(1e-10));
}

TEST_CASE("rope reads heads out of [B,T,H,D], and sends the gradient back in that order") {
  const Tensor memory = randn({2, 5, 3, 8});
  const Tensor x = memory.alias({2, 3, 5, 8}, {120, 8, 24, 1}, 0), positions = Tensor::arange(5);
  set_requires_grad(x);
  const Tensor y = rope(x, positions);
  CHECK(y.is_contiguous());
  check_close(y, reference(x, positions, 10000));
  backward(y, randn({2, 3, 5, 8}));
  CHECK(grad(x).strides() == x.strides());
  const Tensor turned = memory.alias({2, 8, 5, 3}, {120, 1, 24, 8}, 0);  // last axis not contiguous
  CHECK_THROWS_AS(rope(turned, positions), Error);                       // and odd
  const Tensor even = memory.alias({2, 3, 5, 4}, {120, 8, 24, 2}, 0);
  check_close(rope(even, positions), reference(even, positions, 10000));
}

TEST_CASE("rope has the right gradient") {
  const Tensor positions = Tensor::from<std::int32_t>({0, 5, 2, 7}, {2, 2});
  check_gradients([&](const std::vector<Tensor>& in) { return rope(in[0], positions, 100); }, {variable({2, 2, 2, 6})});
}

TEST_CASE("rope equals its composition of small operations") {
  const Tensor positions = Tensor::from<std::int64_t>({3, 0, 70, 1000, 9}, {5});
  check_same_function([&](const std::vector<Tensor>& in) { return rope(in[0], positions, 300); },
                      [&](const std::vector<Tensor>& in) { return rope_composed(in[0], positions, 300); },
                      {variable({2, 3, 5, 22})});
}

TEST_CASE("rope gives the same bits for any thread count") {
  const Tensor x = randn({2, 3, 150, 34}), positions = Tensor::arange(150);
  check_same_bits_for_any_thread_count([&] { return std::vector<Tensor>{rope(x, positions)}; });
}

TEST_CASE("rope says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 1, 3, 4}), positions = Tensor::arange(3);
  CHECK_THROWS_WITH_AS(rope(Tensor::zeros({2, 3, 4}), positions),
                       "rope: x must be floats [B,H,T,D], not f32[2,3,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(rope(Tensor::zeros({1, 1, 3, 5}), positions),
                       "rope: the head width 5 of f32[1,1,3,5]@cpu is odd; features turn in pairs", Error);
  CHECK_THROWS_WITH_AS(rope(x, Tensor::arange(2)),
                       "rope: positions i64[2]@cpu must be [T] or [B,T] for x f32[2,1,3,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(rope(x, Tensor::zeros({3})), "rope: positions must be i64 or i32, not f32[3]@cpu", Error);
  CHECK_THROWS_WITH_AS(rope(x, positions, 0), "rope: base 0 is not a positive number", Error);
}
