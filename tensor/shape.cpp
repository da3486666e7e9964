#include "tensor/shape.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace sq {

Shape::Shape(std::span<const std::int64_t> extents) {
  for (std::int64_t extent : extents) push_back(extent);
}

void Shape::push_back(std::int64_t extent) { insert(rank_, extent); }

void Shape::insert(int axis, std::int64_t extent) {
  require(rank_ < kMaxRank, "shape", "more than {} axes are not supported", kMaxRank);
  require(axis >= 0 && axis <= rank_, "shape", "cannot insert axis {} into {}", axis, *this);
  for (int i = rank_; i > axis; --i) (*this)[i] = (*this)[i - 1];
  (*this)[axis] = extent;
  ++rank_;
}

void Shape::erase(int axis) {
  require(axis >= 0 && axis < rank_, "shape", "cannot remove axis {} from {}", axis, *this);
  for (int i = axis; i + 1 < rank_; ++i) (*this)[i] = (*this)[i + 1];
  --rank_;
}

std::int64_t Shape::numel() const {
  std::int64_t product = 1;
  bool empty = false;
  for (std::int64_t extent : *this) {
    require(extent >= 0, "shape", "{} has a negative extent", *this);
    empty |= extent == 0;
    // The strides of a tensor without elements must fit, too.
    require(!__builtin_mul_overflow(product, std::max<std::int64_t>(extent, 1), &product), "shape",
            "the extents of {} multiply to more than 63 bits count", *this);
  }
  return empty ? 0 : product;
}

bool Shape::operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.begin(), shape.end(), ",")); }

Shape contiguous_strides(const Shape& shape) {
  (void)shape.numel();  // throws when a stride would not fit
  Shape strides = shape;
  std::int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(shape[axis], 1);
  }
  return strides;
}

Shape broadcast(const Shape& a, const Shape& b, std::string_view op) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int shift = longer.rank() - shorter.rank();
  for (int axis = 0; axis < shorter.rank(); ++axis) {
    const std::int64_t x = longer[axis + shift], y = shorter[axis];
    require(x == y || x == 1 || y == 1, op, "shapes {} and {} do not broadcast: extents {} and {} differ", a, b, x, y);
    result[axis + shift] = x == 1 ? y : x;
  }
  return result;
}

int normalize_axis(int axis, int rank, std::string_view op) {
  require(axis >= -rank && axis < rank, op, "axis {} is out of range for a tensor of rank {}", axis, rank);
  return axis < 0 ? axis + rank : axis;
}

}  // namespace sq
