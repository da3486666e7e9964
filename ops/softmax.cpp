#include "ops/softmax.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "tensor/memory.h"

#include <utility>

namespace sq {
namespace {

/// The same memory with `axis` and the last axis exchanged.
Tensor exchanged(const Tensor& x, int axis) {
  Shape shape = x.shape(), strides = x.strides();
  std::swap(shape[axis], shape[x.rank() - 1]);
  std::swap(strides[axis], strides[x.rank() - 1]);
  return x.alias(shape, strides, 0);
}

Tensor softmax_along(std::string_view op, const Tensor& x, int axis, bool log) {
  require(is_float(x.dtype()), op, "{} does not hold floats", x);
  axis = normalize_axis(axis, x.rank(), op);
  if (computes_in_f32(x)) return cast(softmax_along(op, cast(x, DType::f32), axis, log), x.dtype());

  const Tensor input = packed(exchanged(x, axis));
  const std::int64_t columns = input.size(-1), rows = columns > 0 ? x.numel() / columns : 0;
  Tensor y = Tensor::empty_like(input);
  visit_float(x, op, [&]<class T>() {
    launch<kernel::SoftmaxForward>(
        x.device(), kernel::SoftmaxForward::Arguments<T>{
                        .rows = rows, .columns = columns, .x = input.data<T>(), .y = y.data<T>(), .log = log});
  });
  return record(op, {x}, exchanged(y, axis), {y},
                [op, rows, columns, axis, log](const Saved& saved, const Tensor& dy) -> Gradients {
                  const Tensor upstream = packed(exchanged(dy, axis));
                  Tensor dx = Tensor::empty_like(upstream);
                  visit_float(dy, op, [&]<class T>() {
                    launch<kernel::SoftmaxBackward>(dy.device(),
                                                    kernel::SoftmaxBackward::Arguments<T>{.rows = rows,
                                                                                          .columns = columns,
                                                                                          .y = saved[0].data<T>(),
                                                                                          .dy = upstream.data<T>(),
                                                                                          .dx = dx.data<T>(),
                                                                                          .log = log});
                  });
                  return {exchanged(dx, axis)};
                });
}

}  // namespace

Tensor softmax(const Tensor& x, int axis) { return softmax_along("softmax", x, axis, false); }
Tensor log_softmax(const Tensor& x, int axis) { return softmax_along("log_softmax", x, axis, true); }

}  // namespace sq
