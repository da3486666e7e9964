#include "ops/reduce.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>
#include <array>

namespace sq {
namespace {

/// How a reduction sees its operand: as [outer, extent, inner] with the middle axis reduced.
struct Reduction {
  std::int64_t outer = 1, extent = 1, inner = 1;
  Shape shape;    // of the operand
  Shape strides;  // with which a row-major [outer, extent, inner] has that shape
  Shape kept;     // the operand's shape with the reduced extents replaced by 1
  Shape result;   // of the result
};

using AxisSet = std::array<bool, Shape::kMaxRank>;

AxisSet axis_set(const Tensor& x, const Axes& axes, std::string_view op) {
  AxisSet set{};
  for (const int given : axes) {
    bool& member = set[static_cast<std::size_t>(normalize_axis(given, x.rank(), op))];
    require(!member, op, "axis {} of {} is named twice", given, x);
    member = true;
  }
  if (axes.empty()) set.fill(true);
  return set;
}

/// When the reduced axes are neighbours the operand is taken as it lies, else they are moved to the end.
Reduction plan(const Shape& shape, const AxisSet& reduced, bool keep) {
  Reduction r;
  r.shape = r.kept = shape;
  const auto is_reduced = [&](int axis) { return reduced[static_cast<std::size_t>(axis)]; };
  bool neighbours = true;
  enum { before, within, after } place = before;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (is_reduced(axis)) r.kept[axis] = 1;
    if (keep || !is_reduced(axis)) r.result.push_back(r.kept[axis]);
    if (shape[axis] == 1) continue;
    if (is_reduced(axis)) {
      neighbours &= place != after;
      place = within;
      r.extent *= shape[axis];
    } else {
      if (place == within) place = after;
      (place == before ? r.outer : r.inner) *= shape[axis];
    }
  }
  if (neighbours) {
    r.strides = contiguous_strides(shape);
    return r;
  }
  r.outer *= r.inner;
  r.inner = 1;
  r.strides = shape;
  std::int64_t stride = 1;
  for (const bool want : {true, false})
    for (int axis = shape.rank() - 1; axis >= 0; --axis)
      if (is_reduced(axis) == want) {
        r.strides[axis] = stride;
        stride *= std::max<std::int64_t>(shape[axis], 1);
      }
  return r;
}

Reduction plan(const Tensor& x, const Axes& axes, bool keep, std::string_view op) {
  return plan(x.shape(), axis_set(x, axes, op), keep);
}

/// An uninitialised tensor of the operand's shape that lies as [outer, extent, inner].
Tensor make_operand(const Reduction& r, TensorOptions options) {
  return Tensor::empty({r.shape.numel()}, options).alias(r.shape, r.strides, 0);
}

/// `x` lying as [outer, extent, inner]; a copy only when it does not yet.
Tensor as_operand(const Tensor& x, const Reduction& r) {
  if (x.strides() == r.strides || (x.is_contiguous() && r.strides == contiguous_strides(r.shape))) return x;
  Tensor copy = make_operand(r, x.options());
  copy_(copy, x);
  return copy;
}

Tensor raw_sum(const Tensor& x, const Reduction& r, std::string_view op) {
  const Tensor operand = as_operand(x, r);
  Tensor y = Tensor::empty(r.result, x.options());
  visit_float(x, op, [&]<class T>() {
    launch<kernel::ReduceSum>(
        x.device(),
        kernel::ReduceSum::Arguments<T>{
            .outer = r.outer, .extent = r.extent, .inner = r.inner, .x = operand.data<T>(), .y = y.data<T>()});
  });
  return y;
}

/// dy with the reduced axes back in place and repeated.
Tensor spread(const Tensor& dy, const Shape& kept, const Shape& shape) { return expand(reshape(dy, kept), shape); }

}  // namespace

Tensor sum(const Tensor& x, const Axes& axes, bool keep) {
  if (computes_in_f32(x)) return cast(sum(cast(x, DType::f32), axes, keep), x.dtype());
  const Reduction r = plan(x, axes, keep, "sum");
  return record("sum", {x}, raw_sum(x, r, "sum"), {},
                [kept = r.kept, shape = r.shape](const Saved&, const Tensor& dy) -> Gradients {
                  return {spread(dy, kept, shape)};
                });
}

Tensor mean(const Tensor& x, const Axes& axes, bool keep) {
  // A 16-bit sum may overflow where the mean does not.
  if (is_half(x.dtype())) return cast(mean(cast(x, DType::f32), axes, keep), x.dtype());
  const Reduction r = plan(x, axes, keep, "mean");
  const auto count = static_cast<double>(r.extent);
  return record("mean", {x}, div(raw_sum(x, r, "mean"), count), {},
                [kept = r.kept, shape = r.shape, count](const Saved&, const Tensor& dy) -> Gradients {
                  return {spread(div(dy, count), kept, shape)};
                });
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  require(shape.rank() <= x.rank() && broadcast(x.shape(), shape, "sum_to") == x.shape(), "sum_to",
          "{} does not broadcast to the shape of {}", shape, x);
  if (computes_in_f32(x)) return cast(sum_to(cast(x, DType::f32), shape), x.dtype());
  AxisSet reduced{};
  const int shift = x.rank() - shape.rank();
  for (int axis = 0; axis < x.rank(); ++axis)
    reduced[static_cast<std::size_t>(axis)] = axis < shift || (shape[axis - shift] == 1 && x.shape()[axis] != 1);
  Reduction r = plan(x.shape(), reduced, true);
  r.result = shape;
  return record("sum_to", {x}, raw_sum(x, r, "sum_to"), {},
                [from = x.shape()](const Saved&, const Tensor& dy) -> Gradients { return {expand(dy, from)}; });
}

namespace {

struct Largest {
  Tensor values, indices;  // indices count along the reduced axes in row-major order
};

Largest largest(const Tensor& x, const Reduction& r, std::string_view op) {
  require(r.extent > 0 || r.outer * r.inner == 0, op, "{} has nothing to choose from along the reduced axes", x);
  const Tensor operand = as_operand(x, r);
  Largest result{Tensor::empty(r.result, x.options()), Tensor::empty(r.result, {DType::i64, x.device()})};
  visit_float(x, op, [&]<class T>() {
    launch<kernel::ArgMax>(x.device(), kernel::ArgMax::Arguments<T>{.outer = r.outer,
                                                                    .extent = r.extent,
                                                                    .inner = r.inner,
                                                                    .x = operand.data<T>(),
                                                                    .index = result.indices.data<std::int64_t>(),
                                                                    .y = result.values.data<T>()});
  });
  return result;
}

}  // namespace

Tensor max(const Tensor& x, const Axes& axes, bool keep) {
  if (computes_in_f32(x)) return cast(max(cast(x, DType::f32), axes, keep), x.dtype());
  const Reduction r = plan(x, axes, keep, "max");
  const Largest found = largest(x, r, "max");
  return record("max", {x}, found.values, {found.indices}, [r](const Saved& saved, const Tensor& dy) -> Gradients {
    const Tensor upstream = packed(dy);
    Tensor dx = make_operand(r, dy.options());
    visit_float(dy, "max", [&]<class T>() {
      launch<kernel::MaxBackward>(dy.device(), kernel::MaxBackward::Arguments<T>{.outer = r.outer,
                                                                                 .extent = r.extent,
                                                                                 .inner = r.inner,
                                                                                 .index = saved[0].data<std::int64_t>(),
                                                                                 .dy = upstream.data<T>(),
                                                                                 .dx = dx.data<T>()});
    });
    return {dx};
  });
}

Tensor argmax(const Tensor& x, int axis, bool keep) {
  if (computes_in_f32(x)) return argmax(cast(detach(x), DType::f32), axis, keep);
  return largest(x, plan(x, {normalize_axis(axis, x.rank(), "argmax")}, keep, "argmax"), "argmax").indices;
}

Tensor logsumexp(const Tensor& x, const Axes& axes, bool keep) {
  if (computes_in_f32(x)) return cast(logsumexp(cast(x, DType::f32), axes, keep), x.dtype());
  const Reduction r = plan(x, axes, keep, "logsumexp");
  const Tensor operand = as_operand(x, r);
  Tensor y = Tensor::empty(r.result, x.options());
  visit_float(x, "logsumexp", [&]<class T>() {
    launch<kernel::LogSumExp>(
        x.device(),
        kernel::LogSumExp::Arguments<T>{
            .outer = r.outer, .extent = r.extent, .inner = r.inner, .x = operand.data<T>(), .y = y.data<T>()});
  });
  return record("logsumexp", {x}, y, {operand, y}, [r](const Saved& saved, const Tensor& dy) -> Gradients {
    const Tensor upstream = packed(dy);
    Tensor dx = make_operand(r, dy.options());
    visit_float(dy, "logsumexp", [&]<class T>() {
      launch<kernel::LogSumExpBackward>(dy.device(), kernel::LogSumExpBackward::Arguments<T>{.outer = r.outer,
                                                                                             .extent = r.extent,
                                                                                             .inner = r.inner,
                                                                                             .x = saved[0].data<T>(),
                                                                                             .y = saved[1].data<T>(),
                                                                                             .dy = upstream.data<T>(),
                                                                                             .dx = dx.data<T>()});
    });
    return {dx};
  });
}

}  // namespace sq
