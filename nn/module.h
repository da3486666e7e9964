// nn/module.h: a part of a model: named parameters and buffers, possibly made of smaller parts.
#pragma once

#include "tensor/safetensors.h"
#include "tensor/tensor.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sq {

/// Names are dotted paths, `layers.0.attn.q_proj.weight`. Order is the order of registration: a module's own parameters
/// first, then its parts in turn. Modules stay where they are (parts are registered by address).
class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// All parameters (leaves that need gradients) of this module and its parts.
  NamedTensors named_parameters() const;
  /// Tensors that belong to the state but are not trained.
  NamedTensors named_buffers() const;
  /// Parameters, then buffers: what a checkpoint holds.
  NamedTensors state_dict() const;
  /// Number of trained values.
  std::int64_t parameter_count() const;

  /// Copies values into this module's parameters and buffers (dtypes converted). Throws UsageError, beginning with
  /// `label`, that lists all missing names, unexpected names and wrong shapes at once; nothing is changed then.
  void load_state_dict(const NamedTensors& tensors, std::string_view label);

  /// Training mode (dropout acts) or evaluation mode, for this module and its parts. Modules start in training mode.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  /// Removes all gradients.
  void clear_gradients();

 protected:
  /// Registers a trained tensor under `name` and returns its handle. Throws Error when the name is taken.
  Tensor add_parameter(std::string name, Tensor value);
  Tensor add_buffer(std::string name, Tensor value);
  /// Registers a part; an empty name lets its parameters appear without a prefix.
  void add_module(std::string name, Module& part);

 private:
  enum class Kind { parameter, buffer };
  void collect(Kind kind, const std::string& prefix, NamedTensors& out) const;
  void check_new_name(std::string_view name) const;

  NamedTensors parameters_;
  NamedTensors buffers_;
  std::vector<std::pair<std::string, Module*>> parts_;
  bool training_ = true;
};

/// Evaluation mode for a scope; afterwards the module and all its parts take the mode that the module had before.
class EvalMode {
 public:
  explicit EvalMode(Module& module) : module_(module), before_(module.training()) { module.eval(); }
  ~EvalMode() { module_.train(before_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  Module& module_;
  bool before_;
};

}  // namespace sq
