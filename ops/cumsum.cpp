#include "ops/cumsum.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "tensor/memory.h"

namespace sq {
namespace {

Tensor running_sum(const Tensor& x, int axis, bool reverse) {
  const Tensor input = packed(x);
  Tensor y = Tensor::empty_like(x);
  std::int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; ++i) outer *= x.shape()[i];
  for (int i = axis + 1; i < x.rank(); ++i) inner *= x.shape()[i];
  visit_float(x, "cumsum", [&]<class T>() {
    launch<kernel::CumulativeSum>(x.device(), kernel::CumulativeSum::Arguments<T>{.outer = outer,
                                                                                  .extent = x.shape()[axis],
                                                                                  .inner = inner,
                                                                                  .reverse = reverse,
                                                                                  .x = input.data<T>(),
                                                                                  .y = y.data<T>()});
  });
  return y;
}

}  // namespace

Tensor cumsum(const Tensor& x, int axis) {
  axis = normalize_axis(axis, x.rank(), "cumsum");
  if (computes_in_f32(x)) return cast(cumsum(cast(x, DType::f32), axis), x.dtype());
  return record("cumsum", {x}, running_sum(x, axis, false), {},
                [axis](const Saved&, const Tensor& dy) -> Gradients { return {running_sum(dy, axis, true)}; });
}

}  // namespace sq
