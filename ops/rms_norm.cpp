#include "ops/rms_norm.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/sum_dtype.h"
#include "tensor/memory.h"

namespace sq {

Tensor rms_norm(const Tensor& x, const Tensor& gain, double epsilon) {
  require_same_kind("rms_norm", {x, gain});
  require(x.rank() >= 1 && gain.rank() == 1 && gain.size(0) == x.size(-1), "rms_norm",
          "gain {} does not fit the last axis of {}", gain, x);
  require(x.size(-1) > 0, "rms_norm", "{} has no columns", x);
  require(epsilon > 0, "rms_norm", "epsilon {} is not positive", epsilon);
  if (computes_in_f32(x)) return cast(rms_norm(cast(x, DType::f32), cast(gain, DType::f32), epsilon), x.dtype());

  const Tensor input = packed(x), weight = packed(gain);
  const std::int64_t columns = x.size(-1), rows = x.numel() / columns;
  Tensor y = Tensor::empty_like(x), r = Tensor::empty({rows}, {sum_dtype(x.dtype()), x.device()});
  visit_float(x, "rms_norm", [&]<class T>() {
    launch<kernel::RmsNormForward>(x.device(), kernel::RmsNormForward::Arguments<T>{.rows = rows,
                                                                                    .columns = columns,
                                                                                    .x = input.data<T>(),
                                                                                    .gain = weight.data<T>(),
                                                                                    .epsilon = epsilon,
                                                                                    .y = y.data<T>(),
                                                                                    .r = r.data<Accumulator<T>>()});
  });
  return record(
      "rms_norm", {x, gain}, y, {input, weight, r}, [rows, columns](const Saved& saved, const Tensor& dy) -> Gradients {
        const Tensor upstream = packed(dy);
        Tensor dx = saved.wants(0) ? Tensor::empty_like(dy) : Tensor();
        Tensor dgain = saved.wants(1) ? Tensor::empty_like(saved[1]) : Tensor();
        visit_float(dy, "rms_norm", [&]<class T>() {
          launch<kernel::RmsNormBackward>(
              dy.device(), kernel::RmsNormBackward::Arguments<T>{.rows = rows,
                                                                 .columns = columns,
                                                                 .x = saved[0].data<T>(),
                                                                 .gain = saved[1].data<T>(),
                                                                 .r = saved[2].data<Accumulator<T>>(),
                                                                 .dy = upstream.data<T>(),
                                                                 .dx = dx.defined() ? dx.data<T>() : nullptr,
                                                                 .dgain = dgain.defined() ? dgain.data<T>() : nullptr});
        });
        return {dx, dgain};
      });
}

}  // namespace sq
