#include "ops/cross_entropy.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/index.h"
#include "ops/sum_dtype.h"
#include "tensor/memory.h"

namespace sq {
namespace {

struct Losses {
  Tensor logits, targets;  // packed
  Tensor each, lse;        // [rows]
  std::int64_t rows = 0, columns = 0;
};

Losses losses_of(std::string_view op, const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  require(logits.rank() >= 1 && logits.size(-1) > 0, op, "logits {} have no classes", logits);
  Shape leading = logits.shape();
  leading.erase(logits.rank() - 1);
  require(targets.shape() == leading, op, "targets {} do not fit logits {}", targets, logits);
  require(options.label_smoothing >= 0 && options.label_smoothing < 1, op, "label smoothing {} is outside [0, 1)",
          options.label_smoothing);
  const TensorOptions sums{sum_dtype(logits.dtype()), logits.device()};
  Losses result{.logits = packed(logits),
                .targets = checked_index(op, targets, logits.size(-1), &options.ignore_index),
                .each = Tensor::empty(leading, sums),
                .lse = Tensor::empty(leading, sums),
                .rows = targets.numel(),
                .columns = logits.size(-1)};
  visit_float(logits, op, [&]<class T>() {
    launch<kernel::CrossEntropyForward>(
        logits.device(), kernel::CrossEntropyForward::Arguments<T>{.rows = result.rows,
                                                                   .columns = result.columns,
                                                                   .logits = result.logits.data<T>(),
                                                                   .targets = result.targets.data<std::int64_t>(),
                                                                   .ignore_index = options.ignore_index,
                                                                   .label_smoothing = options.label_smoothing,
                                                                   .losses = result.each.data<Accumulator<T>>(),
                                                                   .lse = result.lse.data<Accumulator<T>>()});
  });
  return result;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  if (computes_in_f32(logits)) return cross_entropy(cast(logits, DType::f32), targets, options);

  const Losses losses = losses_of("cross_entropy", logits, targets, options);
  const Tensor counted = kernel::count_targets("cross_entropy", losses.targets, options.ignore_index);
  return record("cross_entropy", {logits}, kernel::mean_loss(losses.each, counted),
                {losses.logits, losses.targets, losses.lse, counted},
                [rows = losses.rows, columns = losses.columns, options, shape = logits.shape()](
                    const Saved& saved, const Tensor& dy) -> Gradients {
                  Tensor dlogits = Tensor::empty(shape, saved[0].options());
                  visit_float(dlogits, "cross_entropy", [&]<class T>() {
                    launch<kernel::CrossEntropyBackward>(dy.device(), kernel::CrossEntropyBackward::Arguments<T>{
                                                                          .rows = rows,
                                                                          .columns = columns,
                                                                          .logits = saved[0].data<T>(),
                                                                          .targets = saved[1].data<std::int64_t>(),
                                                                          .ignore_index = options.ignore_index,
                                                                          .label_smoothing = options.label_smoothing,
                                                                          .lse = saved[2].data<Accumulator<T>>(),
                                                                          .counted = saved[3].data<double>(),
                                                                          .dy = dy.data<Accumulator<T>>(),
                                                                          .dlogits = dlogits.data<T>()});
                  });
                  return {dlogits};
                });
}

Tensor token_losses(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  if (computes_in_f32(logits)) return token_losses(packed_copy(logits, DType::f32), targets, options);
  return losses_of("token_losses", logits, targets, options).each;
}

namespace kernel {

Tensor count_targets(std::string_view op, const Tensor& targets, std::int64_t ignore_index) {
  Tensor counted = Tensor::empty({}, {DType::f64, targets.device()});
  launch<CountTargets>(targets.device(), CountTargets::Arguments<double>{.count = targets.numel(),
                                                                         .targets = targets.data<std::int64_t>(),
                                                                         .ignore_index = ignore_index,
                                                                         .counted = counted.data<double>()});
  const bool some = targets.numel() > 0 && (targets.device().is_cuda() || counted.item() > 0);
  require(some, op, "all {} targets are {}, which is ignored; the mean over none is undefined", targets.numel(),
          ignore_index);
  return counted;
}

Tensor mean_loss(const Tensor& losses, const Tensor& counted) {
  Tensor mean = Tensor::empty({}, losses.options());
  visit_float(losses.dtype(), "mean_loss", [&]<class T>() {
    launch<MeanLoss>(losses.device(), MeanLoss::Arguments<T>{.count = losses.numel(),
                                                             .losses = losses.data<T>(),
                                                             .counted = counted.data<double>(),
                                                             .mean = mean.data<T>()});
  });
  return mean;
}

}  // namespace kernel
}  // namespace sq
