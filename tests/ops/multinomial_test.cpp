#include "ops/multinomial.h"

#include "ops/cast.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

TEST_CASE("multinomial draws with the given chances in every dtype") {
  constexpr std::int64_t kDraws = 20000;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    Generator generator(3);
    const Tensor weights = cast(Tensor::from<float>({1, 0, 2, 5, 0}, {5}), dtype);  // out of 8
    const Tensor index = multinomial(expand(weights, {kDraws, 5}), generator);
    CHECK(index.dtype() == DType::i64);
    std::vector<double> share(5);
    for (const std::int64_t i : index.to_vector<std::int64_t>())
      share.at(static_cast<std::size_t>(i)) += 1.0 / static_cast<double>(kDraws);
    CHECK(share[1] == 0);
    CHECK(share[4] == 0);
    // five standard deviations of a frequency among 20000 draws
    CHECK(std::abs(share[0] - 1.0 / 8) < 0.012);
    CHECK(std::abs(share[2] - 2.0 / 8) < 0.016);
    CHECK(std::abs(share[3] - 5.0 / 8) < 0.018);
  }
}

TEST_CASE("multinomial follows the generator, row by row") {
  const Tensor p = rand({40, 33});
  Generator a(9), b(9), c(10);
  const Tensor first = multinomial(p, a);
  CHECK(bit_equal(first, multinomial(p, b)));
  CHECK(a == b);
  CHECK(a.next_stream == 1);
  CHECK_FALSE(bit_equal(first, multinomial(p, a)));  // the next stream
  CHECK_FALSE(bit_equal(first, multinomial(p, c)));
  Generator again(9);
  CHECK(bit_equal(multinomial(slice(p, 0, 0, 7), again), slice(first, 0, 0, 7)));  // later rows do not matter
  Generator strided(9);
  CHECK(bit_equal(multinomial(transpose(packed_copy(transpose(p, 0, 1)), 0, 1), strided), first));
}

TEST_CASE("multinomial at the edges") {
  CHECK(multinomial(Tensor::ones({3, 1})).to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 0, 0});
  CHECK(multinomial(Tensor::zeros({0, 4})).shape() == Shape{0});
  CHECK(multinomial(Tensor::from<float>({0, 0, 1e-30f, 0}, {1, 4})).item() == 2);
}

TEST_CASE("multinomial gives the same draws for any thread count") {
  const Tensor p = rand({200, 300});
  std::vector<Tensor> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    Generator generator(1);
    results.push_back(multinomial(p, generator));
  }
  cpu::set_thread_count(threads);
  CHECK(bit_equal(results[0], results[1]));
  CHECK(bit_equal(results[0], results[2]));
}

TEST_CASE("multinomial says what is wrong" * doctest::test_suite("cpu")) {
  const char* text =
      "multinomial: row 1 of f32[2,2]@cpu is no distribution; its entries must be finite, not negative and not all 0";
  CHECK_THROWS_WITH_AS(multinomial(Tensor::from<float>({1, 1, 0, 0}, {2, 2})), text, Error);
  CHECK_THROWS_WITH_AS(multinomial(Tensor::from<float>({1, 1, 2, -1}, {2, 2})), text, Error);
  CHECK_THROWS_WITH_AS(multinomial(Tensor::from<float>({1, 1, 2, NAN}, {2, 2})), text, Error);
  CHECK_THROWS_WITH_AS(multinomial(Tensor::from<float>({1, 1, 2, INFINITY}, {2, 2})), text, Error);
  CHECK_THROWS_AS(multinomial(Tensor::zeros({2, 0})), Error);
  CHECK_THROWS_WITH_AS(multinomial(Tensor::zeros({2})), "multinomial: f32[2]@cpu must have the axes [rows, choices]",
                       Error);
}
