#include "ops/dropout.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor reference(const Tensor& x, double p, std::uint64_t seed, std::uint64_t stream) {
  std::vector<double> values = x.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>(random_uniform(seed, stream, i)) >= p ? values[i] / (1 - p) : 0;
  return cast(Tensor::from(values, x.shape()), x.dtype());
}

}  // namespace

TEST_CASE("dropout keeps the elements that random_uniform says, in every dtype and on odd shapes") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{}, Shape{0, 3}, Shape{1}, Shape{3, 63}, Shape{5, 4099}}) {
      CAPTURE(to_string(shape));
      const Tensor x = cast(randn(shape), dtype);
      Generator generator(123456789012345ull, 77ull << 30);
      check_close(dropout(x, 0.3, generator), reference(x, 0.3, 123456789012345ull, 77ull << 30));
      CHECK(generator.next_stream == (77ull << 30) + 1);
    }
}

TEST_CASE("dropout drops the share p and keeps the mean") {
  Generator generator(1);
  const std::int64_t count = 200000;
  for (const double p : {0.1, 0.5, 0.9}) {
    const std::vector<double> y = dropout(Tensor::ones({count}), p, generator).to_vector<double>();
    double dropped = 0, total = 0;
    for (const double v : y) {
      dropped += v == 0;
      total += v;
    }
    CHECK(dropped / count == doctest::Approx(p).epsilon(0.02));
    CHECK(total / count == doctest::Approx(1).epsilon(0.03));
  }
  const Tensor ones = Tensor::ones({1000});
  CHECK_FALSE(
      bit_equal(dropout(ones, 0.5, generator), dropout(ones, 0.5, generator)));  // the next stream, another mask
}

TEST_CASE("dropout with p = 0 is x itself") {
  Generator generator(1);
  const Tensor x = randn({3});
  CHECK(dropout(x, 0, generator).shares_memory_with(x));
  CHECK(generator.next_stream == 0);
}

TEST_CASE("the gradient of dropout goes through the same mask") {
  const Tensor x = Tensor::ones({2, 3000}), memory = randn({3000, 2});
  set_requires_grad(x);
  Generator generator(5, 3);
  const Tensor y = dropout(x, 0.25, generator), dy = memory.alias({2, 3000}, {1, 2}, 0);
  backward(y, dy);
  check_close(grad(x), reference(dy, 0.25, 5, 3));
  check_gradients(
      [](const std::vector<Tensor>& in) {
        Generator again(9);
        return dropout(in[0], 0.4, again);
      },
      {variable({5, 7})});
}

TEST_CASE("dropped values leave nothing behind, not even a NaN") {
  const Tensor x = Tensor::full({100}, NAN);
  Generator generator(2);
  for (const double v : dropout(x, 0.99, generator).to_vector<double>()) CHECK((v == 0 || std::isnan(v)));
}

TEST_CASE("dropout gives the same bits for any thread count") {
  const Tensor x = randn({70001});
  check_same_bits_for_any_thread_count([&] {
    Generator generator(4);
    return std::vector<Tensor>{dropout(x, 0.5, generator)};
  });
}

TEST_CASE("dropout says what is wrong") {
  CHECK_THROWS_WITH_AS(dropout(Tensor::ones({2}), 1), "dropout: p 1 is outside [0, 1)", Error);
  CHECK_THROWS_WITH_AS(dropout(Tensor::ones({2}), -0.5), "dropout: p -0.5 is outside [0, 1)", Error);
  CHECK_THROWS_AS(dropout(Tensor::ones({2}), NAN), Error);
  CHECK_THROWS_WITH_AS(dropout(Tensor::arange(2), 0.5), "dropout: dtype i64 is not supported; use f32 or f64", Error);
}
