#include "tools/compare/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace sq::compare {
namespace {

std::string scaled(double value, double base, std::initializer_list<const char*> units) {
  const auto* unit = units.begin();
  while (unit + 1 != units.end() && std::abs(value) >= 0.9995 * base) value /= base, ++unit;
  return fmt::format("{:.3g} {}", value, *unit);
}

}  // namespace

std::string written(double value, Unit unit) {
  switch (unit) {
    case Unit::milliseconds:
      return scaled(value * 1e3, 1000, {"µs", "ms", "s"});
    case Unit::bytes:
      return scaled(value, 1000, {"B", "kB", "MB", "GB", "TB"});
    case Unit::share:
      return fmt::format("{:.0f} %", 100 * value);
    case Unit::nats:
      return fmt::format("{:.3g}", value);
    case Unit::tokens:
    case Unit::steps:
      break;
  }
  return fmt::format("{:.0f}", value);
}

Axis::Axis(std::vector<double> values, bool logarithmic, double first, double last)
    : logarithmic_(logarithmic), first_(first), last_(last) {
  std::erase_if(values, [&](double v) { return !std::isfinite(v) || (logarithmic && v <= 0); });
  if (values.empty()) return;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  low_ = *low, high_ = *high;
  if (logarithmic) {
    const double air = std::max(std::pow(high_ / low_, 0.04), 1.08);
    low_ /= air, high_ *= air;
  } else {
    const double air = std::max(0.05 * (high_ - low_), 1e-3 * std::max(1.0, std::abs(high_)));
    low_ -= air, high_ += air;
  }
}

double Axis::pixel(double value) const {
  const double share = logarithmic_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
  return first_ + share * (last_ - first_);
}

std::vector<double> Axis::ticks() const {
  std::vector<double> ticks;
  if (!logarithmic_) {
    const double rough = (high_ - low_) / 5, power = std::pow(10, std::floor(std::log10(rough)));
    double step = 10 * power;
    for (const double round : {1.0, 2.0, 5.0})
      if (round * power >= rough) {
        step = round * power;
        break;
      }
    for (double i = std::ceil(low_ / step); i * step <= high_; ++i) ticks.push_back(i * step + 0.0);  // no -0
    return ticks;
  }
  const double decades = std::log10(high_ / low_);
  const std::vector<double> mantissas = decades > 3.2   ? std::vector{1.0}
                                        : decades > 1.3 ? std::vector{1.0, 3.0}
                                                        : std::vector{1.0, 2.0, 5.0};
  for (int exponent = static_cast<int>(std::floor(std::log10(low_))); std::pow(10, exponent) <= high_; ++exponent)
    for (const double mantissa : mantissas) {
      const double tick = mantissa * std::pow(10, exponent);
      if (tick >= low_ && tick <= high_) ticks.push_back(tick);
    }
  while (ticks.size() > 8) {  // every other one
    std::size_t kept = 0;
    for (std::size_t i = 0; i < ticks.size(); i += 2) ticks[kept++] = ticks[i];
    ticks.resize(kept);
  }
  return ticks;
}

std::vector<double> spread(const std::vector<double>& wanted, double gap, double top, double bottom) {
  std::vector<std::size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> places = wanted;
  double free_from = top;
  for (const std::size_t i : order) {
    places[i] = std::max(places[i], free_from);
    free_from = places[i] + gap;
  }
  double free_to = bottom;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    places[*i] = std::min(places[*i], free_to);
    free_to = places[*i] - gap;
  }
  return places;
}

}  // namespace sq::compare
