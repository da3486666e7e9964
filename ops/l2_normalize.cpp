#include "ops/l2_normalize.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/sum_dtype.h"
#include "tensor/memory.h"

namespace sq {

Tensor l2_normalize(const Tensor& x, double epsilon) {
  require(x.rank() >= 1 && x.size(-1) > 0, "l2_normalize", "{} has no columns", x);
  require(epsilon >= 1e-30 && epsilon <= 1e30, "l2_normalize", "epsilon {} is not between 1e-30 and 1e30", epsilon);
  if (computes_in_f32(x)) return cast(l2_normalize(cast(x, DType::f32), epsilon), x.dtype());

  const Tensor input = packed(x);
  const std::int64_t columns = x.size(-1), rows = x.numel() / columns;
  Tensor y = Tensor::empty_like(x), r = Tensor::empty({rows}, {sum_dtype(x.dtype()), x.device()});
  visit_float(x, "l2_normalize", [&]<class T>() {
    launch<kernel::L2NormalizeForward>(x.device(),
                                       kernel::L2NormalizeForward::Arguments<T>{.rows = rows,
                                                                                .columns = columns,
                                                                                .x = input.data<T>(),
                                                                                .epsilon = epsilon,
                                                                                .y = y.data<T>(),
                                                                                .r = r.data<Accumulator<T>>()});
  });
  return record("l2_normalize", {x}, y, {y, r},
                [rows, columns, epsilon](const Saved& saved, const Tensor& dy) -> Gradients {
                  const Tensor upstream = packed(dy);
                  Tensor dx = Tensor::empty_like(dy);
                  visit_float(dy, "l2_normalize", [&]<class T>() {
                    launch<kernel::L2NormalizeBackward>(
                        dy.device(), kernel::L2NormalizeBackward::Arguments<T>{.rows = rows,
                                                                               .columns = columns,
                                                                               .y = saved[0].data<T>(),
                                                                               .r = saved[1].data<Accumulator<T>>(),
                                                                               .epsilon = epsilon,
                                                                               .dy = upstream.data<T>(),
                                                                               .dx = dx.data<T>()});
                  });
                  return {dx};
                });
}

}  // namespace sq
