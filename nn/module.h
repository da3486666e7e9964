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

  /// For inference with f32 activations: rounds the large matrices of this module and its parts, those of linear layers
  /// and embeddings, to bf16 or f16. A multiplication then reads half the bytes, which is what decoding waits for. All
  /// else stays f32. The matrices cannot be trained afterwards.
  void hold_matrices_in(DType dtype);
  /// Whether that was done. Results are f32 then, whatever the matrices.
  bool holds_half_matrices() const { return holds_half_matrices_; }

 protected:
  /// Registers a trained tensor under `name` and returns its handle. Throws Error when the name is taken.
  Tensor add_parameter(std::string name, Tensor value);
  Tensor add_buffer(std::string name, Tensor value);
  /// Puts another tensor in the place of the parameter `name`, for inference, and returns its handle.
  Tensor replace_parameter(std::string_view name, Tensor value);
  /// What hold_matrices_in does to this module alone.
  virtual void hold_own_matrices_in(DType) {}
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
  bool holds_half_matrices_ = false;
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
