#include "ops/cross_entropy.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/index.h"
#include "tensor/memory.h"

#include <algorithm>

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
  Losses result{.logits = packed(logits),
                .targets = checked_index(op, targets, logits.size(-1), &options.ignore_index),
                .each = Tensor::empty(leading, logits.options()),
                .lse = Tensor::empty(leading, logits.options()),
                .rows = targets.numel(),
                .columns = logits.size(-1)};
  visit_float(logits.dtype(), op, [&]<class T>() {
    launch<kernel::CrossEntropyForward>(
        logits.device(), kernel::CrossEntropyForward::Arguments<T>{.rows = result.rows,
                                                                   .columns = result.columns,
                                                                   .logits = result.logits.data<T>(),
                                                                   .targets = result.targets.data<std::int64_t>(),
                                                                   .ignore_index = options.ignore_index,
                                                                   .label_smoothing = options.label_smoothing,
                                                                   .losses = result.each.data<T>(),
                                                                   .lse = result.lse.data<T>()});
  });
  return result;
}

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  if (computes_in_f32(logits)) return cross_entropy(cast(logits, DType::f32), targets, options);

  const Losses losses = losses_of("cross_entropy", logits, targets, options);
  const std::int64_t counted = kernel::count_targets("cross_entropy", losses.targets, options.ignore_index);
  double total = 0;
  for (const double loss : losses.each.to_vector<double>()) total += loss;
  Tensor y = Tensor::scalar(total / static_cast<double>(counted), logits.options());
  return record("cross_entropy", {logits}, y, {losses.logits, losses.targets, losses.lse},
                [rows = losses.rows, columns = losses.columns, counted, options, shape = logits.shape()](
                    const Saved& saved, const Tensor& dy) -> Gradients {
                  Tensor dlogits = Tensor::empty(shape, dy.options());
                  visit_float(dy.dtype(), "cross_entropy", [&]<class T>() {
                    launch<kernel::CrossEntropyBackward>(
                        dy.device(),
                        kernel::CrossEntropyBackward::Arguments<T>{.rows = rows,
                                                                   .columns = columns,
                                                                   .logits = saved[0].data<T>(),
                                                                   .targets = saved[1].data<std::int64_t>(),
                                                                   .ignore_index = options.ignore_index,
                                                                   .label_smoothing = options.label_smoothing,
                                                                   .lse = saved[2].data<T>(),
                                                                   .scale = dy.item() / static_cast<double>(counted),
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

std::int64_t count_targets(std::string_view op, const Tensor& targets, std::int64_t ignore_index) {
  const auto* values = targets.data<std::int64_t>();
  const std::int64_t ignored = std::count(values, values + targets.numel(), ignore_index);
  require(ignored < targets.numel(), op, "all {} targets are {}, which is ignored; the mean over none is undefined",
          targets.numel(), ignore_index);
  return targets.numel() - ignored;
}

}  // namespace kernel
}  // namespace sq
