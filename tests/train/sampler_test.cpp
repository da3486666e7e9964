#include "train/sampler.h"

#include "tensor/error.h"
#include "tensor/random.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>

using namespace sq;

TEST_CASE("temperature 0 takes the first of the largest logits") {
  const std::vector<float> logits{1, 5, 5, -2};
  CHECK(next_token_distribution(logits, {.temperature = 0, .top_k = 1, .top_p = 0.1}) ==
        std::vector<double>{0, 1, 0, 0});
  CHECK(sample_token(logits, {.temperature = 0}, 0.999) == 1);
}

TEST_CASE("top_k keeps ties with the k-th") {
  const std::vector<float> logits{3, 1, 2, 2, 0};
  const auto p = next_token_distribution(logits, {.top_k = 2});
  CHECK(p[2] == p[3]);
  CHECK(p[2] > 0);
  CHECK(p[1] == 0);
  CHECK(p[4] == 0);
  CHECK(next_token_distribution(logits, {.top_k = 50}) == next_token_distribution(logits, {}));
}

TEST_CASE("top_p keeps the entry that crosses the bound and drops the rest") {
  // p = 0.5, 0.3, 0.2
  const std::vector<float> logits{std::log(0.3f), std::log(0.5f), std::log(0.2f)};
  auto p = next_token_distribution(logits, {.top_p = 0.6});
  CHECK(p[0] == doctest::Approx(0.375));
  CHECK(p[1] == doctest::Approx(0.625));
  CHECK(p[2] == 0);
  p = next_token_distribution(logits, {.top_p = 0.01});
  CHECK(p == std::vector<double>{0, 1, 0});
}

TEST_CASE("draws follow the distribution") {
  const std::vector<float> logits{0, 1, 2, -1};
  const auto p = next_token_distribution(logits, {.temperature = 1.5});
  CHECK(std::accumulate(p.begin(), p.end(), 0.0) == doctest::Approx(1));
  std::vector<double> counts(4);
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i)
    counts[static_cast<std::size_t>(sample_token(logits, {.temperature = 1.5},
                                                 random_uniform(3, 0, static_cast<std::uint64_t>(i))))] += 1.0 / kDraws;
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(counts[i] - p[i]) < 0.015);
  CHECK(sample_token(logits, {}, 0.0) == 0);
  CHECK(sample_token(logits, {}, std::nextafter(1.0, 0.0)) == 3);
}

TEST_CASE("extreme settings stay sane and wrong ones are refused") {
  const std::vector<float> logits{1, 2, -std::numeric_limits<float>::infinity()};
  CHECK(next_token_distribution(logits, {.temperature = 1e-300}) == std::vector<double>{0, 1, 0});
  CHECK(next_token_distribution(logits, {})[2] == 0);
  CHECK_THROWS_AS(next_token_distribution(std::vector<float>{NAN, 1}, {}), Error);
  CHECK_THROWS_AS(next_token_distribution(std::vector<float>{}, {}), Error);
  CHECK_THROWS_WITH_AS(check_sampling({.temperature = -1}),
                       "sampling: temperature -1 must be a finite number of 0 or more", UsageError);
  CHECK_THROWS_AS(check_sampling({.temperature = NAN}), UsageError);
  CHECK_THROWS_AS(check_sampling({.top_k = -1}), UsageError);
  CHECK_THROWS_AS(check_sampling({.top_p = 0}), UsageError);
  CHECK_THROWS_AS(check_sampling({.top_p = NAN}), UsageError);
  CHECK_NOTHROW(check_sampling({.temperature = 0, .top_k = 0, .top_p = 2}));
}
