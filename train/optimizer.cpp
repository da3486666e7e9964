#include "train/optimizer.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/gradient_norm.h"
#include "tensor/memory.h"

#include <fmt/ranges.h>

#include <cmath>
#include <unordered_map>

namespace sq {
namespace {

std::string_view after_last_dot(std::string_view name) { return name.substr(name.rfind('.') + 1); }

bool is_embedding_table(std::string_view name) {
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return false;
  const std::string_view owner = after_last_dot(name.substr(0, name.size() - kWeight.size()));
  return owner.ends_with("emb") || owner.ends_with("embedding");
}

}  // namespace

bool decays(DecayRule rule, std::string_view name, const Tensor& parameter) {
  if (rule == DecayRule::all) return true;
  if (parameter.rank() < 2 || after_last_dot(name) == "global_memory") return false;
  return rule == DecayRule::matrices || !is_embedding_table(name);
}

void validate(const AdamWSettings& s) {
  const auto beta = [](std::string_view field, double value) {
    require_input(value >= 0 && value < 1, field, "{} is not in [0, 1)", value);
  };
  beta("beta1", s.beta1);
  beta("beta2", s.beta2);
  require_input(std::isfinite(s.epsilon) && s.epsilon > 0, "epsilon", "{} is not a positive number", s.epsilon);
  require_input(std::isfinite(s.weight_decay) && s.weight_decay >= 0, "weight_decay", "{} is not a number >= 0",
                s.weight_decay);
}

AdamW::AdamW(const Module& module, const AdamWSettings& settings)
    : parameters_(module.named_parameters()), settings_(settings) {
  validate(settings);
  for (const auto& [name, parameter] : parameters_) {
    const TensorOptions options{is_half(parameter.dtype()) ? DType::f32 : parameter.dtype(), parameter.device()};
    slots_.push_back({.weight = parameter,
                      .gradient = {},
                      .exp_avg = Tensor::zeros(parameter.shape(), options),
                      .exp_avg_sq = Tensor::zeros(parameter.shape(), options),
                      .weight_decay = decays(settings.decay, name, parameter) ? settings.weight_decay : 0});
  }
}

double AdamW::step(double learning_rate, double max_norm, double loss_scale, const Tensor& check) {
  const NoGrad unrecorded;
  std::vector<Tensor> gradients;
  for (AdamWSlot& slot : slots_) {
    slot.gradient = grad(slot.weight);
    if (!slot.gradient.defined()) slot.gradient = Tensor::zeros_like(slot.weight);
    gradients.push_back(slot.gradient);
  }
  Tensor norm = gradient_norm(gradients);
  if (check.defined()) norm = add(norm, mul(cast(check, DType::f64), 0));  // 0·x is NaN unless x is finite
  adamw_step(slots_, {.learning_rate = learning_rate,
                      .beta1 = settings_.beta1,
                      .beta2 = settings_.beta2,
                      .epsilon = settings_.epsilon,
                      .weight_decay = settings_.weight_decay,
                      .step = steps_ + 1,
                      .gradient_scale = 1 / loss_scale,
                      .norm = norm,
                      .max_norm = max_norm});
  for (AdamWSlot& slot : slots_) slot.gradient = {};  // memory for the next forward pass
  const double result = norm.item() / loss_scale;
  if (std::isfinite(result)) ++steps_;
  return result;
}

NamedTensors AdamW::state() const {
  NamedTensors out;
  for (std::size_t i = 0; i < slots_.size(); ++i)
    out.emplace_back("exp_avg." + parameters_[i].first, slots_[i].exp_avg);
  for (std::size_t i = 0; i < slots_.size(); ++i)
    out.emplace_back("exp_avg_sq." + parameters_[i].first, slots_[i].exp_avg_sq);
  out.emplace_back("step", Tensor::from<std::int64_t>({steps_}, {1}));
  return out;
}

void AdamW::load_state(const NamedTensors& tensors, std::string_view label) {
  std::unordered_map<std::string_view, Tensor> given;
  for (const auto& [name, tensor] : tensors) given[name] = tensor;
  std::vector<std::string> problems;
  NamedTensors own = state();
  for (const auto& [name, tensor] : own) {
    const auto found = given.find(name);
    if (found == given.end())
      problems.push_back(fmt::format("'{}' is missing", name));
    else if (found->second.shape() != tensor.shape() || found->second.dtype() != tensor.dtype())
      problems.push_back(fmt::format("'{}' is {}, {} is needed", name, found->second, tensor));
    if (found != given.end()) given.erase(found);
  }
  for (const auto& [name, tensor] : tensors)
    if (given.contains(name)) problems.push_back(fmt::format("'{}' is unexpected", name));
  require_input(problems.empty(), label, "the optimizer's state does not fit: {}", fmt::join(problems, "; "));

  for (const auto& [name, tensor] : tensors) given[name] = tensor;
  for (auto& [name, tensor] : own) copy_(tensor, given.at(name));
  steps_ = given.at("step").to_vector<std::int64_t>()[0];
}

}  // namespace sq
