// tools/compare/fit.h: how fast a cost grows with the length.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sq::compare {

/// cost ≈ c·N^exponent.
struct Growth {
  double exponent = 0;
  double error = 0;      // standard error of the exponent
  double r_squared = 0;  // share of the variance of ln cost that the line explains; 1 where there is none
  std::size_t points = 0;
  double first = 0, last = 0;  // lengths fitted
};

/// Least squares of ln cost over ln N, of the largest lengths: the larger half of them, but at least three, since what
/// does not grow with N hides the growth at the short end. None when fewer than three lengths have a cost above 0.
std::optional<Growth> fit_growth(std::vector<std::pair<double, double>> length_and_cost);

/// "N^1.98 ± 0.02 (R² 1.000, 3 points)" or "too few points".
std::string growth_text(const std::optional<Growth>& growth);

}  // namespace sq::compare
