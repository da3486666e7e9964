// tensor/shape.h: extents and strides, and the rules that combine them.
#pragma once

#include "tensor/error.h"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace sq {

/// Up to eight integers held in place: the extents of a tensor, or its strides (counted in elements).
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const std::int64_t> extents);
  explicit Shape(const std::vector<std::int64_t>& extents) : Shape(std::span(extents.data(), extents.size())) {}

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return extents_[static_cast<std::size_t>(axis)]; }
  const std::int64_t* begin() const { return extents_.data(); }
  const std::int64_t* end() const { return extents_.data() + rank_; }
  void push_back(std::int64_t extent);
  void insert(int axis, std::int64_t extent);
  void erase(int axis);

  /// Product of the extents; 1 for rank 0. Throws Error when it, or that of the extents above 0, overflows 63 bits.
  std::int64_t numel() const;
  bool operator==(const Shape& other) const;

 private:
  std::array<std::int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

/// "[2,3,4]".
std::string to_string(const Shape& shape);

/// Row-major strides in elements: the last axis has stride 1. Throws as numel() does.
Shape contiguous_strides(const Shape& shape);

/// NumPy's rule: align at the last axis; extents must be equal or one of them 1. Throws Error naming `op` and both
/// shapes.
Shape broadcast(const Shape& a, const Shape& b, std::string_view op);

/// Maps a possibly negative axis to 0 … rank-1. Throws Error naming `op`.
int normalize_axis(int axis, int rank, std::string_view op);

}  // namespace sq

template <>
struct fmt::formatter<sq::Shape> : fmt::formatter<std::string> {
  auto format(const sq::Shape& shape, fmt::format_context& ctx) const {
    return fmt::formatter<std::string>::format(sq::to_string(shape), ctx);
  }
};
