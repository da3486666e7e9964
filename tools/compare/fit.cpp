#include "tools/compare/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sq::compare {
namespace {

constexpr std::size_t kFewest = 3;

}  // namespace

std::optional<Growth> fit_growth(std::vector<std::pair<double, double>> points) {
  std::erase_if(points, [](const auto& p) { return !(p.first > 0) || !(p.second > 0) || !std::isfinite(p.second); });
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end(), [](auto& a, auto& b) { return a.first == b.first; }),
               points.end());
  if (points.size() < kFewest) return std::nullopt;
  const std::size_t count = std::max(kFewest, (points.size() + 1) / 2);
  points.erase(points.begin(), points.end() - static_cast<std::ptrdiff_t>(count));

  const auto n = static_cast<double>(count);
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0, yy = 0;
  for (const auto& [x, y] : points) mean_x += std::log(x) / n, mean_y += std::log(y) / n;
  for (const auto& [x, y] : points) {
    const double dx = std::log(x) - mean_x, dy = std::log(y) - mean_y;
    xx += dx * dx, xy += dx * dy, yy += dy * dy;
  }
  const double slope = xy / xx, residual = std::max(0.0, yy - slope * xy);
  constexpr double kNoVariance = 1e-20;
  return Growth{.exponent = slope,
                .error = std::sqrt(residual / (n - 2) / xx),
                .r_squared = yy > kNoVariance ? 1 - residual / yy : 1,
                .points = count,
                .first = points.front().first,
                .last = points.back().first};
}

std::string growth_text(const std::optional<Growth>& growth) {
  if (!growth) return "too few points";
  return fmt::format("N^{:.2f} ± {:.2f} (R² {:.3f}, {} points)", growth->exponent, growth->error, growth->r_squared,
                     growth->points);
}

}  // namespace sq::compare
