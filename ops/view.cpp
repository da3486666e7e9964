#include "ops/view.h"

#include "autograd/node.h"
#include "ops/reduce.h"
#include "tensor/memory.h"

#include <algorithm>

namespace sq {
namespace {

/// `shape` with its -1, if any, replaced by what makes `numel` elements.
Shape complete(const Shape& shape, const Tensor& x) {
  Shape result = shape, known;
  int open = -1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == -1) {
      require(open < 0, "reshape", "{} has more than one -1", shape);
      open = axis;
    } else {
      known.push_back(shape[axis]);
    }
  }
  const std::int64_t count = known.numel();
  if (open >= 0 && count > 0 && x.numel() % count == 0) result[open] = x.numel() / count;
  require(open >= 0 ? result[open] >= 0 : count == x.numel(), "reshape", "{} of {} elements cannot take the shape {}",
          x, x.numel(), shape);
  return result;
}

/// A tensor of zeros of `shape`, with `dy` at the window that `view` makes of it.
template <class View>
Tensor scatter(const Shape& shape, const Tensor& dy, View&& view) {
  const Tensor dx = Tensor::zeros(shape, dy.options());
  Tensor window = view(dx);
  copy_(window, dy);
  return dx;
}

}  // namespace

bool strides_for_reshape(const Shape& shape, const Shape& strides, const Shape& wanted, Shape& result) {
  result = contiguous_strides(wanted);
  if (wanted.numel() == 0) return true;
  Shape runs, steps;  // axes merged wherever one step of the outer is a whole walk along the inner
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == 1) continue;
    const int last = runs.rank() - 1;
    if (last >= 0 && steps[last] == strides[axis] * shape[axis]) {
      runs[last] *= shape[axis];
      steps[last] = strides[axis];
    } else {
      runs.push_back(shape[axis]);
      steps.push_back(strides[axis]);
    }
  }
  // From the last axis on, every wanted axis must be cut out of one run.
  int run = runs.rank();
  std::int64_t left = 1, step = 1;
  for (int axis = wanted.rank() - 1; axis >= 0; --axis) {
    if (wanted[axis] > 1 && left == 1) {
      --run;
      left = runs[run];
      step = steps[run];
    }
    if (left % wanted[axis] != 0) return false;
    result[axis] = step;
    step *= wanted[axis];
    left /= wanted[axis];
  }
  return true;
}

Tensor reshape(const Tensor& x, const Shape& shape) {
  const Shape wanted = complete(shape, x);
  Shape strides;
  const Tensor y = strides_for_reshape(x.shape(), x.strides(), wanted, strides)
                       ? x.alias(wanted, strides, 0)
                       : packed_copy(x).alias(wanted, contiguous_strides(wanted), 0);
  return record("reshape", {x}, y, {},
                [from = x.shape()](const Saved&, const Tensor& dy) -> Gradients { return {reshape(dy, from)}; });
}

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  return record("contiguous", {x}, packed_copy(x), {},
                [](const Saved&, const Tensor& dy) -> Gradients { return {dy}; });
}

Tensor transpose(const Tensor& x, int a, int b) {
  a = normalize_axis(a, x.rank(), "transpose");
  b = normalize_axis(b, x.rank(), "transpose");
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[a], shape[b]);
  std::swap(strides[a], strides[b]);
  return record("transpose", {x}, x.alias(shape, strides, 0), {},
                [a, b](const Saved&, const Tensor& dy) -> Gradients { return {transpose(dy, a, b)}; });
}

Tensor permute(const Tensor& x, const std::vector<int>& axes) {
  require(static_cast<int>(axes.size()) == x.rank(), "permute", "{} axes are given for {}", axes.size(), x);
  Shape shape = x.shape(), strides = x.strides();
  std::vector<int> inverse(axes.size(), -1);
  for (int i = 0; i < x.rank(); ++i) {
    const int axis = normalize_axis(axes[static_cast<std::size_t>(i)], x.rank(), "permute");
    int& place = inverse[static_cast<std::size_t>(axis)];
    require(place < 0, "permute", "axis {} of {} is named twice", axis, x);
    place = i;
    shape[i] = x.shape()[axis];
    strides[i] = x.strides()[axis];
  }
  return record("permute", {x}, x.alias(shape, strides, 0), {},
                [inverse](const Saved&, const Tensor& dy) -> Gradients { return {permute(dy, inverse)}; });
}

Tensor squeeze(const Tensor& x, int axis) {
  axis = normalize_axis(axis, x.rank(), "squeeze");
  require(x.shape()[axis] == 1, "squeeze", "axis {} of {} has an extent other than 1", axis, x);
  Shape shape = x.shape(), strides = x.strides();
  shape.erase(axis);
  strides.erase(axis);
  return record("squeeze", {x}, x.alias(shape, strides, 0), {},
                [axis](const Saved&, const Tensor& dy) -> Gradients { return {unsqueeze(dy, axis)}; });
}

Tensor unsqueeze(const Tensor& x, int axis) {
  axis = normalize_axis(axis, x.rank() + 1, "unsqueeze");
  Shape shape = x.shape(), strides = x.strides();
  const std::int64_t step = axis < x.rank() ? shape[axis] * strides[axis] : 1;
  shape.insert(axis, 1);
  strides.insert(axis, step);
  return record("unsqueeze", {x}, x.alias(shape, strides, 0), {},
                [axis](const Saved&, const Tensor& dy) -> Gradients { return {squeeze(dy, axis)}; });
}

Tensor slice(const Tensor& x, int axis, std::int64_t begin, std::int64_t end, std::int64_t step) {
  axis = normalize_axis(axis, x.rank(), "slice");
  const std::int64_t extent = x.shape()[axis], first = begin < 0 ? begin + extent : begin,
                     last = end < 0 ? end + extent : end;
  require(0 <= first && first <= last && last <= extent, "slice", "{}:{} is not a range of axis {} of {}", begin, end,
          axis, x);
  require(step >= 1, "slice", "a step of {} is less than 1", step);
  Shape shape = x.shape(), strides = x.strides();
  const std::int64_t offset = first * strides[axis];
  step = std::min(step, std::max<std::int64_t>(last - first, 1));  // a longer step reaches no second index
  shape[axis] = (last - first + step - 1) / step;
  strides[axis] *= step;
  return record("slice", {x}, x.alias(shape, strides, offset), {},
                [from = x.shape(), axis, first, last, step](const Saved&, const Tensor& dy) -> Gradients {
                  return {scatter(from, dy, [&](const Tensor& dx) { return slice(dx, axis, first, last, step); })};
                });
}

Tensor select(const Tensor& x, int axis, std::int64_t index) {
  axis = normalize_axis(axis, x.rank(), "select");
  const std::int64_t extent = x.shape()[axis], at = index < 0 ? index + extent : index;
  require(0 <= at && at < extent, "select", "index {} is out of range for axis {} of {}", index, axis, x);
  Shape shape = x.shape(), strides = x.strides();
  const std::int64_t offset = at * strides[axis];
  shape.erase(axis);
  strides.erase(axis);
  return record("select", {x}, x.alias(shape, strides, offset), {},
                [from = x.shape(), axis, at](const Saved&, const Tensor& dy) -> Gradients {
                  return {scatter(from, dy, [&](const Tensor& dx) { return select(dx, axis, at); })};
                });
}

Shape broadcast_strides(const Tensor& x, const Shape& shape) {
  Shape strides = shape;
  const int shift = shape.rank() - x.rank();
  for (int axis = 0; axis < shape.rank(); ++axis)
    strides[axis] = axis < shift || (x.shape()[axis - shift] == 1 && shape[axis] != 1) ? 0 : x.strides()[axis - shift];
  return strides;
}

Tensor expand(const Tensor& x, const Shape& shape) {
  require(x.rank() <= shape.rank() && broadcast(x.shape(), shape, "expand") == shape, "expand",
          "{} does not broadcast to {}", x, shape);
  return record("expand", {x}, x.alias(shape, broadcast_strides(x, shape), 0), {},
                [from = x.shape()](const Saved&, const Tensor& dy) -> Gradients { return {sum_to(dy, from)}; });
}

}  // namespace sq
