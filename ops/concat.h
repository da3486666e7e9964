// ops/concat.h: several tensors become one, and one becomes several. Any dtype, any strides.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// The tensors one after another along `axis`; their other extents, dtypes and devices must agree. A new row-major
/// tensor. The gradient of each part is its slice of dy, a view. Throws Error for an empty list and on a mismatch.
Tensor concat(const std::vector<Tensor>& parts, int axis);
/// The tensors along a new axis, inserted before `axis` (-1 appends it); all must have the same shape, dtype, device.
Tensor stack(const std::vector<Tensor>& parts, int axis);

/// The inverse of concat: views of sizes[0], sizes[1], … neighbouring indices of `axis`, without copies. One node of
/// the tape for all parts: dx is the dys side by side, zeros for parts that nothing depends on. Throws Error unless the
/// sizes are not negative and add up to the extent.
std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, int axis);

/// `before` and `after` further indices along `axis`, filled with `value`. dx is the slice of dy between them. Throws
/// Error when one is negative.
Tensor pad(const Tensor& x, int axis, std::int64_t before, std::int64_t after, double value = 0);

}  // namespace sq
