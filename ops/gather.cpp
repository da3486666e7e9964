#include "ops/gather.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/index.h"
#include "tensor/memory.h"

namespace sq {
namespace {

/// A shape seen as [outer, extent, inner] around an axis.
struct Around {
  std::int64_t outer = 1, extent = 1, inner = 1;

  Around(const Shape& shape, int axis) : extent(shape[axis]) {
    for (int i = 0; i < shape.rank(); ++i) (i < axis ? outer : inner) *= i == axis ? 1 : shape[i];
  }
};

/// The index checked, and repeated along axes of extent 1, so that it has the extents `shape` apart from `axis`.
Tensor full_index(std::string_view op, const Tensor& index, const Shape& shape, int axis) {
  bool fits = index.rank() == shape.rank();
  Shape wanted = shape, strides;
  for (int i = 0; fits && i < shape.rank(); ++i) {
    if (i == axis) wanted[i] = index.shape()[i];
    fits = index.shape()[i] == wanted[i] || index.shape()[i] == 1;
    strides.push_back(index.shape()[i] == wanted[i] ? index.strides()[i] : 0);
  }
  require(fits, op, "index {} does not fit {} along axis {}", index, shape, axis);
  return checked_index(op, index.alias(wanted, strides, 0), shape[axis]);
}

/// What scatter_add does, without a record: into a copy of `x`, 16-bit floats summed in f32.
Tensor scattered(const Tensor& x, int axis, const Tensor& index, const Tensor& source) {
  Tensor y = packed_copy(x, is_half(x.dtype()) ? DType::f32 : x.dtype());
  const Tensor terms = is_half(x.dtype()) ? packed_copy(source, DType::f32) : packed(source);
  const Around from(index.shape(), axis), to(x.shape(), axis);
  visit_float(y.dtype(), "scatter_add", [&]<class T>() {
    launch<kernel::ScatterAdd>(x.device(), kernel::ScatterAdd::Arguments<T>{.outer = to.outer,
                                                                            .extent = to.extent,
                                                                            .inner = to.inner,
                                                                            .count = from.extent,
                                                                            .source = terms.data<T>(),
                                                                            .index = index.data<std::int64_t>(),
                                                                            .y = y.data<T>()});
  });
  return y.dtype() == x.dtype() ? y : packed_copy(y, x.dtype());
}

Tensor gathered(const Tensor& x, int axis, const Tensor& index) {
  const Tensor input = packed(x);
  Tensor y = Tensor::empty(index.shape(), x.options());
  const Around from(x.shape(), axis), to(index.shape(), axis);
  visit(x.dtype(), [&]<class T>() {
    launch<kernel::Gather>(x.device(), kernel::Gather::Arguments<T>{.outer = from.outer,
                                                                    .extent = from.extent,
                                                                    .inner = from.inner,
                                                                    .count = to.extent,
                                                                    .x = input.data<T>(),
                                                                    .index = index.data<std::int64_t>(),
                                                                    .y = y.data<T>()});
  });
  return y;
}

}  // namespace

Tensor index_select(const Tensor& x, int axis, const Tensor& index) {
  axis = normalize_axis(axis, x.rank(), "index_select");
  require(index.rank() == 1, "index_select", "the index must have one axis, not {}", index);
  const Around around(x.shape(), axis);
  const Tensor places = checked_index("index_select", index, around.extent);
  Shape shape = x.shape();
  shape[axis] = index.numel();
  Tensor y = Tensor::empty(shape, x.options());
  kernel::select_rows(packed(x), around.outer, around.extent, around.inner, places, y);
  if (!is_float(x.dtype())) return y;
  return record("index_select", {x}, y, {places},
                [around, shape = x.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                  Tensor dx = Tensor::empty(shape, dy.options());
                  kernel::add_rows(packed(dy), around.outer, around.extent, around.inner, saved[0], false, dx);
                  return {dx};
                });
}

Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  axis = normalize_axis(axis, x.rank(), "gather");
  const Tensor places = full_index("gather", index, x.shape(), axis);
  Tensor y = gathered(x, axis, places);
  if (!is_float(x.dtype())) return y;
  return record("gather", {x}, y, {places},
                [axis, shape = x.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                  return {scattered(Tensor::zeros(shape, dy.options()), axis, saved[0], dy)};
                });
}

Tensor scatter_add(const Tensor& x, int axis, const Tensor& index, const Tensor& source) {
  require_same_kind("scatter_add", {x, source});
  require(is_float(x.dtype()), "scatter_add", "{} does not hold floats", x);
  axis = normalize_axis(axis, x.rank(), "scatter_add");
  const Tensor places = full_index("scatter_add", index, x.shape(), axis);
  require(source.shape() == places.shape(), "scatter_add", "source {} must have the index's shape {}", source,
          places.shape());
  return record("scatter_add", {x, source}, scattered(x, axis, places, source), {places},
                [axis](const Saved& saved, const Tensor& dy) -> Gradients {
                  return {dy, saved.wants(1) ? gathered(dy, axis, saved[0]) : Tensor()};
                });
}

namespace kernel {

void select_rows(const Tensor& x, std::int64_t outer, std::int64_t extent, std::int64_t inner, const Tensor& index,
                 Tensor& y) {
  visit(x.dtype(), [&]<class T>() {
    launch<SelectRows>(x.device(), SelectRows::Arguments<T>{.outer = outer,
                                                            .extent = extent,
                                                            .inner = inner,
                                                            .count = index.numel(),
                                                            .x = x.data<T>(),
                                                            .index = index.data<std::int64_t>(),
                                                            .y = y.data<T>()});
  });
}

void add_rows(const Tensor& dy, std::int64_t outer, std::int64_t extent, std::int64_t inner, const Tensor& index,
              bool add, Tensor& dx) {
  visit(dy.dtype(), [&]<class T>() {
    if constexpr (!std::is_integral_v<T>)
      launch<AddRows>(dy.device(), AddRows::Arguments<T>{.outer = outer,
                                                         .extent = extent,
                                                         .inner = inner,
                                                         .count = index.numel(),
                                                         .dy = dy.data<T>(),
                                                         .index = index.data<std::int64_t>(),
                                                         .add = add,
                                                         .dx = dx.data<T>()});
  });
}

}  // namespace kernel
}  // namespace sq
