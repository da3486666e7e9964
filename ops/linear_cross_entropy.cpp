#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/cross_entropy.h"
#include "ops/dispatch.h"
#include "ops/gradient_norm.h"
#include "ops/index.h"
#include "tensor/memory.h"

namespace sq {

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
  const std::int64_t counted = kernel::count_targets(op, ids, options.ignore_index);
  const auto wanted = [](const Tensor& t) { return grad_enabled() && requires_grad(t); };
  Tensor dx = wanted(x) ? Tensor::empty_like(x) : Tensor();
  Tensor dweight = wanted(weight) ? Tensor::empty_like(weight) : Tensor();
  Tensor losses = Tensor::empty({ids.numel()}, x.options());
  visit_float(x.dtype(), op, [&]<class T>() {
    const auto address = [](Tensor& t) -> T* { return t.defined() ? t.data<T>() : nullptr; };
    launch<kernel::LinearCrossEntropy>(
        x.device(), kernel::LinearCrossEntropy::Arguments<T>{.rows = ids.numel(),
                                                             .columns = weight.size(0),
                                                             .width = weight.size(1),
                                                             .x = input.data<T>(),
                                                             .weight = projection.data<T>(),
                                                             .targets = ids.data<std::int64_t>(),
                                                             .ignore_index = options.ignore_index,
                                                             .label_smoothing = options.label_smoothing,
                                                             .counted = counted,
                                                             .losses = losses.data<T>(),
                                                             .dx = address(dx),
                                                             .dweight = address(dweight)});
  });
  double total = 0;
  for (const double loss : losses.to_vector<double>()) total += loss;
  return record(op, {x, weight}, Tensor::scalar(total / static_cast<double>(counted), x.options()), {dx, dweight},
                [](const Saved& saved, const Tensor& dy) -> Gradients {
                  Gradients gradients = {saved[0], saved[1]};  // read once: they may be scaled where they lie
                  for (Tensor& gradient : gradients)
                    if (gradient.defined()) scale_({&gradient, 1}, dy.item());
                  return gradients;
                });
}

}  // namespace sq
