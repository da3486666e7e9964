// tensor/convert.h: numbers that do not fit.
#pragma once

#include <cstdint>
#include <limits>

namespace sq {

/// The nearest whole number towards 0 that To holds; 0 for NaN. (A plain conversion of what does not fit is undefined.)
template <class To>
constexpr To whole_number(double value) {
  using Limits = std::numeric_limits<To>;
  constexpr double kEnd = 2.0 * static_cast<double>(std::uint64_t{1} << (Limits::digits - 1));  // 2^digits: too large
  if (value >= kEnd) return Limits::max();
  if (value <= static_cast<double>(Limits::min())) return Limits::min();
  return value != value ? To(0) : static_cast<To>(value);
}

}  // namespace sq
