// nn/sinusoidal.h: fixed positions, sines and cosines of growing wavelengths.
#pragma once

#include "tensor/tensor.h"

#include <span>

namespace sq {

/// Row p is  PE[p,2k] = sin(p·w_k), PE[p,2k+1] = cos(p·w_k),  w_k = base^(-2k/C)  (Vaswani et al. 2017, section 3.5).
/// An odd C ends with a sine. The table is no parameter and in no checkpoint: rows are computed in f64 when they are
/// first asked for, kept, and rounded once to the dtype.
class SinusoidalPositions {
 public:
  /// Throws Error unless width >= 1, limit >= 1 and base is a finite number > 0.
  SinusoidalPositions(std::int64_t width, double base, std::int64_t limit, TensorOptions options = {});

  /// Rows 0 … count-1, [count,C]. Throws Error when count is not in 1 … limit.
  Tensor first(std::int64_t count);
  /// The rows of positions i64 [...] on the host, values 0 … limit-1: [...,C]. Throws Error when one is not.
  Tensor at(std::span<const std::int64_t> positions, const Shape& shape);

  /// Rows that are computed so far.
  std::int64_t size() const { return table_.defined() ? table_.size(0) : 0; }

 private:
  void grow(std::int64_t count);

  std::int64_t width_;
  double base_;
  std::int64_t limit_;
  TensorOptions options_;
  Tensor table_;
};

}  // namespace sq
