#include "nn/module.h"

#include "autograd/node.h"
#include "tensor/memory.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

namespace sq {

void Module::check_new_name(std::string_view name) const {
  const auto taken = [&](const auto& entries) {
    return std::any_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == name; });
  };
  require(!taken(parameters_) && !taken(buffers_) && (name.empty() || !taken(parts_)), "module",
          "the name '{}' is taken", name);
}

Tensor Module::add_parameter(std::string name, Tensor value) {
  check_new_name(name);
  set_requires_grad(value);
  parameters_.emplace_back(std::move(name), value);
  return value;
}

Tensor Module::replace_parameter(std::string_view name, Tensor value) {
  for (auto& [known, tensor] : parameters_)
    if (known == name) return tensor = std::move(value);
  throw Error(fmt::format("module: there is no parameter '{}' to replace", name));
}

void Module::hold_matrices_in(DType dtype) {
  require(is_half(dtype), "module", "matrices can be held in bf16 or f16, not in {}", sq::name(dtype));
  holds_half_matrices_ = true;
  hold_own_matrices_in(dtype);
  for (const auto& [name, part] : parts_) part->hold_matrices_in(dtype);
}

Tensor Module::add_buffer(std::string name, Tensor value) {
  check_new_name(name);
  buffers_.emplace_back(std::move(name), value);
  return value;
}

void Module::add_module(std::string name, Module& part) {
  check_new_name(name);
  parts_.emplace_back(std::move(name), &part);
}

void Module::collect(Kind kind, const std::string& prefix, NamedTensors& out) const {
  for (const auto& [name, tensor] : kind == Kind::parameter ? parameters_ : buffers_)
    out.emplace_back(prefix + name, tensor);
  for (const auto& [name, part] : parts_) part->collect(kind, name.empty() ? prefix : prefix + name + ".", out);
}

NamedTensors Module::named_parameters() const {
  NamedTensors out;
  collect(Kind::parameter, "", out);
  return out;
}

NamedTensors Module::named_buffers() const {
  NamedTensors out;
  collect(Kind::buffer, "", out);
  return out;
}

NamedTensors Module::state_dict() const {
  NamedTensors out = named_parameters();
  for (auto& entry : named_buffers()) out.push_back(std::move(entry));
  return out;
}

std::int64_t Module::parameter_count() const {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : named_parameters()) count += tensor.numel();
  return count;
}

void Module::load_state_dict(const NamedTensors& tensors, std::string_view label) {
  std::unordered_map<std::string_view, const Tensor*> given;
  for (const auto& [name, tensor] : tensors) given[name] = &tensor;
  std::vector<std::string> missing, misshapen, unexpected;
  NamedTensors own = state_dict();
  for (const auto& [name, tensor] : own) {
    const auto found = given.find(name);
    if (found == given.end()) {
      missing.push_back(name);
      continue;
    }
    const Tensor& value = *found->second;
    if (value.shape() != tensor.shape() || is_float(value.dtype()) != is_float(tensor.dtype()))
      misshapen.push_back(fmt::format("{} is {}{}, the model has {}{}", name, sq::name(value.dtype()), value.shape(),
                                      sq::name(tensor.dtype()), tensor.shape()));
    given.erase(found);
  }
  for (const auto& [name, tensor] : tensors)
    if (given.contains(name)) unexpected.push_back(name);
  std::vector<std::string> problems;
  if (!missing.empty()) problems.push_back(fmt::format("missing: {}", fmt::join(missing, ", ")));
  if (!unexpected.empty()) problems.push_back(fmt::format("unexpected: {}", fmt::join(unexpected, ", ")));
  if (!misshapen.empty()) problems.push_back(fmt::format("wrong shape or type: {}", fmt::join(misshapen, "; ")));
  require_input(problems.empty(), label, "the tensors do not fit the model: {}", fmt::join(problems, "; "));

  std::unordered_map<std::string_view, const Tensor*> by_name;
  for (const auto& [name, tensor] : tensors) by_name[name] = &tensor;
  for (auto& [name, tensor] : own) copy_(tensor, *by_name.at(name));
}

void Module::train(bool on) {
  training_ = on;
  for (const auto& [name, part] : parts_) part->train(on);
}

void Module::clear_gradients() {
  for (const auto& [name, tensor] : named_parameters()) set_grad(tensor, Tensor());
}

}  // namespace sq
