#include "ops/sort.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/view.h"
#include "tensor/memory.h"

namespace sq {
namespace {

/// Sorts along the last axis.
Sorted sort_rows(std::string_view op, const Tensor& x, std::int64_t kept, bool descending) {
  const Tensor input = packed(x);
  const std::int64_t columns = x.size(-1);
  Shape shape = x.shape();
  shape[x.rank() - 1] = kept;
  Sorted result{Tensor::empty(shape, x.options()), Tensor::empty(shape, {DType::i64, x.device()})};
  const std::int64_t rows = kept == 0 ? 0 : result.values.numel() / kept;
  visit_float(x, op, [&]<class T>() {
    launch<kernel::SortRows>(x.device(),
                             kernel::SortRows::Arguments<T>{.rows = rows,
                                                            .columns = columns,
                                                            .kept = kept,
                                                            .descending = descending,
                                                            .x = input.data<T>(),
                                                            .values = result.values.data<T>(),
                                                            .indices = result.indices.data<std::int64_t>()});
  });
  result.values = record(op, {x}, result.values, {result.indices},
                         [rows, columns, kept, from = x.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                           const Tensor upstream = packed(dy);
                           Tensor dx = Tensor::zeros(from, dy.options());
                           visit_float(dy, "sort", [&]<class T>() {
                             launch<kernel::SortRowsBackward>(dy.device(), kernel::SortRowsBackward::Arguments<T>{
                                                                               .rows = rows,
                                                                               .columns = columns,
                                                                               .kept = kept,
                                                                               .indices = saved[0].data<std::int64_t>(),
                                                                               .dvalues = upstream.data<T>(),
                                                                               .dx = dx.data<T>()});
                           });
                           return {dx};
                         });
  return result;
}

/// Any dtype and axis by way of f32 and the last axis.
Sorted sort_any(std::string_view op, const Tensor& x, int axis, std::int64_t kept, bool descending) {
  if (computes_in_f32(x)) {
    Sorted wide = sort_any(op, cast(x, DType::f32), axis, kept, descending);
    return {cast(wide.values, x.dtype()), wide.indices};
  }
  if (axis == x.rank() - 1) return sort_rows(op, x, kept, descending);
  const Sorted moved = sort_rows(op, transpose(x, axis, -1), kept, descending);
  return {contiguous(transpose(moved.values, axis, -1)), packed(transpose(moved.indices, axis, -1))};
}

}  // namespace

Sorted sort(const Tensor& x, int axis, bool descending) {
  axis = normalize_axis(axis, x.rank(), "sort");
  return sort_any("sort", x, axis, x.shape()[axis], descending);
}

Sorted topk(const Tensor& x, std::int64_t k, int axis) {
  axis = normalize_axis(axis, x.rank(), "topk");
  require(k >= 0 && k <= x.shape()[axis], "topk", "{} values cannot be taken along axis {} of {}", k, axis, x);
  return sort_any("topk", x, axis, k, true);
}

}  // namespace sq
