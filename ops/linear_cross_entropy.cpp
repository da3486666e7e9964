#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/cross_entropy.h"
#include "ops/dispatch.h"
#include "ops/index.h"
#include "ops/sum_dtype.h"
#include "tensor/memory.h"

namespace sq {
namespace {

/// dy · gradient as `dtype`, where the gradient lies if it has that dtype: it is read once.
Tensor scaled(const Tensor& gradient, const Tensor& dy, DType dtype) {
  if (!gradient.defined()) return {};
  const bool in_place = gradient.dtype() == dtype;
  Tensor result = in_place ? gradient : Tensor::empty(gradient.shape(), {dtype, gradient.device()});
  visit_float(result, "linear_cross_entropy", [&]<class T>() {
    using A = Accumulator<T>;
    launch<kernel::ScaledGradient>(
        dy.device(),
        kernel::ScaledGradient::Arguments<T>{
            .count = gradient.numel(), .x = gradient.data<A>(), .dy = dy.data<A>(), .y = result.data<T>()});
  });
  if (in_place && (dy.device().is_cuda() || dy.item() != 1)) result.mark_changed();
  return result;
}

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            const CrossEntropyOptions& options) {
  constexpr std::string_view op = "linear_cross_entropy";
  require_same_kind(op, {x, weight});
  require(x.rank() >= 1 && weight.rank() == 2 && weight.size(1) == x.size(-1) && weight.size(0) > 0, op,
          "weight {} must be [V,C] for x {} with V at least 1", weight, x);
  Shape leading = x.shape();
  leading.erase(x.rank() - 1);
  require(targets.shape() == leading, op, "targets {} do not fit x {}", targets, x);
  require(options.label_smoothing >= 0 && options.label_smoothing < 1, op, "label smoothing {} is outside [0, 1)",
          options.label_smoothing);
  if (computes_in_f32(x)) return linear_cross_entropy(cast(x, DType::f32), cast(weight, DType::f32), targets, options);

  const Tensor input = packed(x), projection = packed(weight);
  const Tensor ids = checked_index(op, targets, weight.size(0), &options.ignore_index);
  const Tensor counted = kernel::count_targets(op, ids, options.ignore_index);
  const auto wanted = [](const Tensor& t) { return grad_enabled() && requires_grad(t); };
  const TensorOptions sums{sum_dtype(x.dtype()), x.device()};
  Tensor dx = wanted(x) ? Tensor::empty(x.shape(), sums) : Tensor();
  Tensor dweight = wanted(weight) ? Tensor::empty(weight.shape(), sums) : Tensor();
  Tensor losses = Tensor::empty({ids.numel()}, sums);
  visit_float(x, op, [&]<class T>() {
    const auto address = [](Tensor& t) { return t.defined() ? t.data<Accumulator<T>>() : nullptr; };
    launch<kernel::LinearCrossEntropy>(
        x.device(), kernel::LinearCrossEntropy::Arguments<T>{.rows = ids.numel(),
                                                             .columns = weight.size(0),
                                                             .width = weight.size(1),
                                                             .x = input.data<T>(),
                                                             .weight = projection.data<T>(),
                                                             .targets = ids.data<std::int64_t>(),
                                                             .ignore_index = options.ignore_index,
                                                             .label_smoothing = options.label_smoothing,
                                                             .counted = counted.data<double>(),
                                                             .losses = losses.data<Accumulator<T>>(),
                                                             .dx = address(dx),
                                                             .dweight = address(dweight)});
  });
  return record(op, {x, weight}, kernel::mean_loss(losses, counted), {dx, dweight},
                [dtype = x.dtype()](const Saved& saved, const Tensor& dy) -> Gradients {
                  return {scaled(saved[0], dy, dtype), scaled(saved[1], dy, dtype)};
                });
}

}  // namespace sq
