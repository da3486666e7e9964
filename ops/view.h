// ops/view.h: other windows on the same memory. No operation here copies values, unless it says so.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// The same elements in row-major order under another shape of as many elements; one extent may be -1 and is then
/// worked out. A view whenever the strides of `x` permit, else a packed copy. dx = reshape(dy). Throws Error when the
/// numbers of elements differ.
Tensor reshape(const Tensor& x, const Shape& shape);
/// `x` itself when it is row-major, else a packed copy. dx = dy.
Tensor contiguous(const Tensor& x);

/// Axes `a` and `b` exchanged. dx = transpose(dy).
Tensor transpose(const Tensor& x, int a, int b);
/// Axis i of the result is axis axes[i] of `x`. Throws Error unless every axis is named once.
Tensor permute(const Tensor& x, const std::vector<int>& axes);
/// An axis of extent 1 removed; a new axis of extent 1 inserted before `axis` (-1 appends it).
Tensor squeeze(const Tensor& x, int axis);
Tensor unsqueeze(const Tensor& x, int axis);

/// Indices begin, begin + step, … below `end` of an axis. Negative `begin` and `end` count from the end of the axis,
/// step is at least 1. Nothing is clamped: 0 <= begin <= end <= extent must hold, or Error is thrown.
/// dx is dy at these indices and zero elsewhere.
Tensor slice(const Tensor& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1);
/// One index of an axis, which disappears. A negative index counts from the end. Gradient as for slice.
Tensor select(const Tensor& x, int axis, std::int64_t index);

/// `x` repeated to `shape` by NumPy's rule, with stride 0 along repeated axes. dx = sum_to(dy). An element of the
/// result stands for several: write to it only through a copy.
Tensor expand(const Tensor& x, const Shape& shape);
/// The strides through which `x` is read as if it had `shape`, which it broadcasts to: 0 along repeated axes.
Shape broadcast_strides(const Tensor& x, const Shape& shape);
/// The strides that give elements of `shape` with `strides`, taken in row-major order, the shape `wanted` (as many
/// elements); false when there are none.
bool strides_for_reshape(const Shape& shape, const Shape& strides, const Shape& wanted, Shape& result);

}  // namespace sq
