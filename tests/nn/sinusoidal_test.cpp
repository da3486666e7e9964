#include "nn/sinusoidal.h"

#include "ops/view.h"
#include "tests/support/compare.h"

#include <cmath>

using namespace sq;
using namespace sq::test;

TEST_CASE("sinusoidal positions, worked out by hand") {
  SinusoidalPositions positions(4, 10000, 64, {.dtype = DType::f64});
  const Tensor rows = positions.first(3);
  check_close(rows, Tensor::from<double>({0, 1, 0, 1,                                                  //
                                          std::sin(1.), std::cos(1.), std::sin(0.01), std::cos(0.01),  //
                                          std::sin(2.), std::cos(2.), std::sin(0.02), std::cos(0.02)},
                                         {3, 4}));
}

TEST_CASE("sinusoidal rows are the same whenever they are asked for") {
  SinusoidalPositions at_once(6, 10000, 100, {.dtype = DType::f64}), grown(6, 10000, 100, {.dtype = DType::f64});
  const Tensor all = at_once.first(100);
  CHECK(grown.size() == 0);
  for (const std::int64_t count : {1, 2, 7, 60, 100})
    CHECK(bit_equal(grown.first(count), packed(slice(all, 0, 0, count))));
  CHECK(grown.size() == 100);
  const std::vector<std::int64_t> wanted{99, 0, 5, 5};
  const Tensor picked = grown.at(wanted, {2, 2});
  CHECK(picked.shape() == Shape{2, 2, 6});
  CHECK(bit_equal(packed(select(select(picked, 0, 0), 0, 0)), packed(select(all, 0, 99))));
  CHECK(bit_equal(packed(select(select(picked, 0, 1), 0, 1)), packed(select(all, 0, 5))));
}

TEST_CASE("an odd width ends with a sine") {
  SinusoidalPositions positions(3, 100, 8, {.dtype = DType::f64});
  check_close(slice(positions.first(2), 0, 1, 2),
              Tensor::from<double>({std::sin(1.), std::cos(1.), std::sin(std::pow(100., -2. / 3))}, {1, 3}));
}

TEST_CASE("sinusoidal positions outside the table are refused") {
  SinusoidalPositions positions(4, 10000, 8);
  CHECK_THROWS_WITH_AS(positions.first(9), "sinusoidal: 9 positions are asked for, but there are 1 to 8", Error);
  CHECK_THROWS_WITH_AS(positions.first(0), "sinusoidal: 0 positions are asked for, but there are 1 to 8", Error);
  CHECK_THROWS_AS(positions.at(std::vector<std::int64_t>{8}, {1}), Error);
  CHECK_THROWS_WITH_AS(positions.at(std::vector<std::int64_t>{-1}, {1}), "sinusoidal: positions must be 0 to 7", Error);
  CHECK_THROWS_AS(SinusoidalPositions(0, 10000, 8), Error);
  CHECK_THROWS_AS(SinusoidalPositions(4, NAN, 8), Error);
}
