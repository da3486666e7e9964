#include "ops/layer_norm.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/sum_dtype.h"
#include "tensor/memory.h"

namespace sq {

Tensor layer_norm(const Tensor& x, const Tensor& gain, const Tensor& bias, double epsilon) {
  require_same_kind("layer_norm", {x, gain, bias.defined() ? bias : gain});
  require(x.rank() >= 1 && gain.rank() == 1 && gain.size(0) == x.size(-1), "layer_norm",
          "gain {} does not fit the last axis of {}", gain, x);
  require(!bias.defined() || bias.shape() == gain.shape(), "layer_norm", "bias {} does not have the shape of gain {}",
          bias.defined() ? bias : gain, gain);
  require(x.size(-1) > 0, "layer_norm", "{} has no columns", x);
  require(epsilon > 0, "layer_norm", "epsilon {} is not positive", epsilon);
  if (computes_in_f32(x))
    return cast(layer_norm(cast(x, DType::f32), cast(gain, DType::f32),
                           bias.defined() ? cast(bias, DType::f32) : Tensor(), epsilon),
                x.dtype());

  const Tensor input = packed(x), weight = packed(gain), shift = bias.defined() ? packed(bias) : Tensor();
  const std::int64_t columns = x.size(-1), rows = x.numel() / columns;
  const TensorOptions sums{sum_dtype(x.dtype()), x.device()};
  Tensor y = Tensor::empty_like(x), mean = Tensor::empty({rows}, sums), r = Tensor::empty({rows}, sums);
  visit_float(x, "layer_norm", [&]<class T>() {
    launch<kernel::LayerNormForward>(
        x.device(), kernel::LayerNormForward::Arguments<T>{.rows = rows,
                                                           .columns = columns,
                                                           .x = input.data<T>(),
                                                           .gain = weight.data<T>(),
                                                           .bias = shift.defined() ? shift.data<T>() : nullptr,
                                                           .epsilon = epsilon,
                                                           .y = y.data<T>(),
                                                           .mean = mean.data<Accumulator<T>>(),
                                                           .r = r.data<Accumulator<T>>()});
  });
  return record("layer_norm", {x, gain, bias}, y, {input, weight, mean, r},
                [rows, columns](const Saved& saved, const Tensor& dy) -> Gradients {
                  const Tensor upstream = packed(dy);
                  const auto wanted = [&](std::size_t input, const Tensor& like) {
                    return saved.wants(input) ? Tensor::empty_like(like) : Tensor();
                  };
                  Tensor dx = wanted(0, dy), dgain = wanted(1, saved[1]), dbias = wanted(2, saved[1]);
                  visit_float(dy, "layer_norm", [&]<class T>() {
                    const auto address = [](Tensor& t) -> T* { return t.defined() ? t.data<T>() : nullptr; };
                    launch<kernel::LayerNormBackward>(
                        dy.device(), kernel::LayerNormBackward::Arguments<T>{.rows = rows,
                                                                             .columns = columns,
                                                                             .x = saved[0].data<T>(),
                                                                             .gain = saved[1].data<T>(),
                                                                             .mean = saved[2].data<Accumulator<T>>(),
                                                                             .r = saved[3].data<Accumulator<T>>(),
                                                                             .dy = upstream.data<T>(),
                                                                             .dx = address(dx),
                                                                             .dgain = address(dgain),
                                                                             .dbias = address(dbias)});
                  });
                  return {dx, dgain, dbias};
                });
}

}  // namespace sq
