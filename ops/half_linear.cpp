#include "ops/half_linear.h"

#include "autograd/node.h"
#include "ops/dispatch.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tensor/memory.h"

namespace sq {
namespace {

/// x [rows,·] times the weight, or its transpose.
Tensor product(const Tensor& x, const Tensor& weight, bool transposed, const Tensor& bias) {
  const std::int64_t rows = x.size(0), in = x.size(1), out = weight.size(transposed ? 0 : 1);
  Tensor y = Tensor::empty({rows, out}, x.options());
  const auto multiply = [&]<class T>() {
    launch<kernel::HalfWeightProduct>(
        x.device(), kernel::HalfWeightProduct::Arguments<T>{.rows = rows,
                                                            .in = in,
                                                            .out = out,
                                                            .x = x.data<float>(),
                                                            .weight = weight.data<T>(),
                                                            .transposed = transposed,
                                                            .bias = bias.defined() ? bias.data<float>() : nullptr,
                                                            .y = y.data<float>()});
  };
  if (weight.dtype() == DType::bf16)
    multiply.operator()<bf16>();
  else
    multiply.operator()<f16>();
  return y;
}

}  // namespace

Tensor half_linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  constexpr std::string_view op = "half_linear";
  require(x.dtype() == DType::f32 && is_half(weight.dtype()) && x.device() == weight.device(), op,
          "x {} must be f32 and the weight {} bf16 or f16, on one device", x, weight);
  require(x.rank() >= 1 && weight.rank() == 2 && weight.size(1) == x.size(-1), op,
          "weight {}, which is [out,in], does not fit the last axis of {}", weight, x);
  require(!bias.defined() || (bias.rank() == 1 && bias.size(0) == weight.size(0) && bias.dtype() == DType::f32), op,
          "bias {} does not fit weight {}; it must be f32", bias, weight);
  require(!(grad_enabled() && requires_grad(weight)), op,
          "the weight {} cannot be trained in 16 bits beside an f32 x; cast the one or the other", weight);
  const std::int64_t in = weight.size(1), out = weight.size(0);
  Shape shape = x.shape(), rows{1, in};
  for (int axis = 0; axis + 1 < x.rank(); ++axis) rows[0] *= shape[axis];
  shape[x.rank() - 1] = out;
  const Tensor matrix = packed(weight), input = packed(reshape(detach(x), rows));
  const Tensor y = product(input, matrix, true, bias.defined() ? packed(bias) : bias);
  return record(op, {x, bias}, reshape(y, shape), {matrix},
                [count = rows[0], out, from = x.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                  const Tensor upstream = packed(reshape(dy, {count, out}));
                  Gradients gradients(2);
                  if (saved.wants(0)) gradients[0] = reshape(product(upstream, saved[0], false, {}), from);
                  if (saved.wants(1)) gradients[1] = sum_to(upstream, {out});
                  return gradients;
                });
}

}  // namespace sq
