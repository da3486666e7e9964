// train/optimizer.h: AdamW over the parameters of a module.
#pragma once

#include "nn/module.h"
#include "ops/adamw.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sq {

/// Which parameters weight decay pulls towards zero.
///   linear    matrices that multiply: rank >= 2, apart from embedding tables and global_memory
///   matrices  the same with embedding tables (as nanoGPT does, where the table is also the output layer)
///   all       every parameter, as the original HALO-S
/// Vectors (norms, biases) set scales and offsets, and rows of a table or of global_memory are values in their own
/// right: for them decay is no measure of complexity, and rows that a batch does not touch would shrink all the same.
enum class DecayRule { linear, matrices, all };

constexpr std::array<std::string_view, 3> choices(DecayRule) { return {"linear", "matrices", "all"}; }

/// Whether the rule takes in the parameter. An embedding table is one called "….weight" whose owner's name ends with
/// "emb" or "embedding".
bool decays(DecayRule rule, std::string_view name, const Tensor& parameter);

struct AdamWSettings {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  DecayRule decay = DecayRule::linear;
};

/// Throws UsageError that names the field, its value and the rule: 0 <= beta < 1, epsilon > 0, weight_decay finite
/// and >= 0.
void validate(const AdamWSettings& settings);

/// AdamW (Loshchilov & Hutter 2019, "Decoupled weight decay regularization"; the formula stands in ops/adamw.h).
class AdamW {
 public:
  /// Moments start at zero. The module must outlive the optimizer.
  AdamW(const Module& module, const AdamWSettings& settings);

  /// One update of all parameters by their gradients divided by `loss_scale` and scaled down to a global L2 norm of at
  /// most `max_norm` (0: not clipped). A parameter without a gradient counts as one whose gradient is zero: its moments
  /// fade and decay acts on it. Returns the norm before clipping; where it is not finite, nothing was changed. `check`,
  /// if given, a number on the parameters' device such as the loss, must be finite too. All work is given to the device
  /// before its result is waited for.
  double step(double learning_rate, double max_norm = 0, double loss_scale = 1, const Tensor& check = {});
  /// Updates made.
  std::int64_t steps() const { return steps_; }

  /// "exp_avg.NAME" and "exp_avg_sq.NAME" for each parameter, and "step" (i64[1]).
  NamedTensors state() const;
  /// Copies such tensors in. Throws UsageError, beginning with `label`, that lists missing and unexpected names and
  /// wrong shapes or dtypes; nothing is changed then.
  void load_state(const NamedTensors& tensors, std::string_view label);

 private:
  NamedTensors parameters_;
  std::vector<AdamWSlot> slots_;  // in the order of the parameters
  AdamWSettings settings_;
  std::int64_t steps_ = 0;
};

}  // namespace sq
