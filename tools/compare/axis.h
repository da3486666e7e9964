// tools/compare/axis.h: where a value lies on an axis, and which values are written at it.
#pragma once

#include <string>
#include <vector>

namespace sq::compare {

/// What numbers are of, for writing them.
enum class Unit { tokens, milliseconds, bytes, nats, steps, share };

/// "4096", "1.5 ms", "12 µs", "3.2 MB", "2.31", "85 %".
std::string written(double value, Unit unit);

class Axis {
 public:
  /// Spans `values` (positive ones where logarithmic) with some air, over pixels `first` … `last`, which may descend.
  Axis(std::vector<double> values, bool logarithmic, double first, double last);

  double pixel(double value) const;
  bool holds(double value) const { return value >= low_ * (1 - 1e-9) && value <= high_ * (1 + 1e-9); }
  /// Values to mark: round ones, three to eight of them.
  std::vector<double> ticks() const;

 private:
  bool logarithmic_;
  double first_, last_, low_ = 1, high_ = 10;
};

/// Places for labels that want to stand at `wanted`, at least `gap` apart and inside `top` … `bottom` as far as they
/// fit, in the order of `wanted`.
std::vector<double> spread(const std::vector<double>& wanted, double gap, double top, double bottom);

}  // namespace sq::compare
