#include "ops/adamw.h"

#include "ops/dispatch.h"
#include "tensor/memory.h"

#include <cmath>
#include <vector>

namespace sq {
namespace {

void check(const AdamWOptions& o) {
  const auto natural = [](std::string_view field, double value) {
    require(std::isfinite(value) && value >= 0, "adamw", "{} {} is not a number >= 0", field, value);
  };
  natural("learning_rate", o.learning_rate);
  natural("epsilon", o.epsilon);
  natural("weight_decay", o.weight_decay);
  natural("gradient_scale", o.gradient_scale);
  require(o.beta1 >= 0 && o.beta1 < 1, "adamw", "beta1 {} is not in [0, 1)", o.beta1);
  require(o.beta2 >= 0 && o.beta2 < 1, "adamw", "beta2 {} is not in [0, 1)", o.beta2);
  require(o.step >= 1, "adamw", "step {} is not at least 1", o.step);
  natural("max_norm", o.max_norm);
  require(!o.norm.defined() || (o.norm.rank() == 0 && o.norm.dtype() == DType::f64), "adamw",
          "the norm {} must be f64 of rank 0", o.norm);
  require(o.norm.defined() || o.max_norm == 0, "adamw", "clipping to {} needs the norm of the gradients", o.max_norm);
}

void check(const AdamWSlot& slot) {
  const Tensor& weight = slot.weight;
  require(is_float(weight.dtype()), "adamw", "the weight {} does not hold floats", weight);
  require(slot.gradient.shape() == weight.shape() && slot.gradient.dtype() == weight.dtype(), "adamw",
          "the gradient {} does not fit the weight {}", slot.gradient, weight);
  const DType dtype = is_half(weight.dtype()) ? DType::f32 : weight.dtype();
  for (const Tensor& average : {slot.exp_avg, slot.exp_avg_sq})
    require(average.shape() == weight.shape() && average.dtype() == dtype, "adamw",
            "the running average {} does not fit the weight {}", average, weight);
  for (const Tensor& tensor : {weight, slot.exp_avg, slot.exp_avg_sq})
    require(tensor.is_contiguous(), "adamw", "{} is not row-major", tensor);
  require(!slot.weight_decay || (std::isfinite(*slot.weight_decay) && *slot.weight_decay >= 0), "adamw",
          "weight_decay {} is not a number >= 0", slot.weight_decay.value_or(0));
}

/// A slot with its tensors in the dtype of the arithmetic.
struct Update {
  AdamWSlot* slot;
  Tensor weight, gradient;
};

template <class T>
void step(std::vector<Update>& all, const AdamWOptions& o) {
  std::vector<kernel::AdamW::Item<T>> items;
  for (Update& work : all) {
    if (work.weight.dtype() != dtype_of<T>()) continue;
    items.push_back({.count = work.weight.numel(),
                     .weight = work.weight.data<T>(),
                     .gradient = work.gradient.data<T>(),
                     .exp_avg = work.slot->exp_avg.template data<Accumulator<T>>(),
                     .exp_avg_sq = work.slot->exp_avg_sq.template data<Accumulator<T>>(),
                     .shrink = 1 - o.learning_rate * work.slot->weight_decay.value_or(o.weight_decay)});
  }
  if (items.empty()) return;
  const auto t = static_cast<double>(o.step);
  launch<kernel::AdamW>(all.front().weight.device(),
                        kernel::AdamW::Arguments<T>{.items = items,
                                                    .beta1 = o.beta1,
                                                    .beta2 = o.beta2,
                                                    .step_size = o.learning_rate / (1 - std::pow(o.beta1, t)),
                                                    .inverse_root = 1 / std::sqrt(1 - std::pow(o.beta2, t)),
                                                    .epsilon = o.epsilon,
                                                    .gradient_scale = o.gradient_scale,
                                                    .norm = o.norm.defined() ? o.norm.data<double>() : nullptr,
                                                    .max_norm = o.max_norm});
}

}  // namespace

void adamw_step(std::span<AdamWSlot> slots, const AdamWOptions& options) {
  check(options);
  for (const AdamWSlot& slot : slots)
    if (slot.gradient.defined()) check(slot);
  std::vector<Update> all;
  for (AdamWSlot& slot : slots) {
    if (!slot.gradient.defined()) continue;
    require(!options.norm.defined() || options.norm.device() == slot.weight.device(), "adamw",
            "the norm {} and the weight {} are on different devices", options.norm, slot.weight);
    const bool widen = computes_in_f32(slot.weight);
    all.push_back({.slot = &slot,
                   .weight = widen ? packed_copy(slot.weight, DType::f32) : slot.weight,
                   .gradient = widen ? packed_copy(slot.gradient, DType::f32) : packed(slot.gradient)});
  }
  step<float>(all, options);
  step<double>(all, options);
  step<bf16>(all, options);  // on a GPU; the CPU has widened them
  step<f16>(all, options);
  for (Update& work : all) {
    if (work.weight.dtype() != work.slot->weight.dtype()) copy_(work.slot->weight, work.weight);
    work.slot->weight.mark_changed();
    work.slot->exp_avg.mark_changed();
    work.slot->exp_avg_sq.mark_changed();
  }
}

}  // namespace sq
