// ops/adamw.h: one optimizer step for all tensors of a model.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

#include <limits>
#include <optional>
#include <span>

namespace sq {

/// A tensor under training with its running averages, all of one shape. Weight and gradient are floats of one dtype;
/// the averages have that dtype too, or f32 where the weight has 16 bits. All but the gradient must be row-major.
struct AdamWSlot {
  Tensor weight;
  Tensor gradient;  // undefined: the slot is left as it is
  Tensor exp_avg;
  Tensor exp_avg_sq;
  std::optional<double> weight_decay = {};  // this tensor's own decay instead of the options'
};

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  std::int64_t step = 1;      // t, counted from 1
  double gradient_scale = 1;  // multiplies every gradient first, such as the inverse of a loss scale
  /// The norm of all gradients, as gradient_norm gives it, or undefined. Where it is not finite, nothing is updated.
  Tensor norm = {};
  double max_norm =
      0;  // > 0, with a norm: gradients are scaled so that their norm, after gradient_scale, is at most this
};

/// AdamW (Loshchilov & Hutter 2019, algorithm 2), with γ the learning rate, λ the decay and g the scaled gradient:
///   w ← w (1 - γλ),   m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²,
///   w ← w - γ · m/(1 - β₁ᵗ) / (√(v/(1 - β₂ᵗ)) + ε).
/// Clipping multiplies g by min(1, max_norm / (norm·scale + 1e-6)); the norm is read where it lies, so that nothing
/// waits for a GPU.
/// In place, one pass over memory for all slots together; the result does not depend on the number of threads. A weight
/// of 16 bits is widened, updated and rounded, so that updates below half its precision are lost.
/// Throws Error on mismatched shapes, dtypes or strides, t < 1, a β outside [0,1), and a negative or not finite rate,
/// ε, decay or scale, and a norm that is not f64 of rank 0 on the weights' device.
void adamw_step(std::span<AdamWSlot> slots, const AdamWOptions& options);

namespace kernel {

/// What gradients are multiplied by, or NaN where the update is left out.
constexpr double gradient_factor(double scale, const double* norm, double max_norm) {
  if (norm == nullptr) return scale;
  const double scaled = *norm * scale;
  if (!(scaled - scaled == 0)) return std::numeric_limits<double>::quiet_NaN();
  return max_norm > 0 && scaled + 1e-6 > max_norm ? scale * (max_norm / (scaled + 1e-6)) : scale;
}

struct AdamW {
  static constexpr std::string_view name = "adamw";
  template <class T>
  struct Item {
    std::int64_t count;
    T* weight;  // [count], and so the others
    const T* gradient;
    Accumulator<T>* exp_avg;
    Accumulator<T>* exp_avg_sq;
    double shrink;  // 1 - γλ
  };
  template <class T>
  struct Arguments {
    std::span<const Item<T>> items;
    double beta1, beta2;
    double step_size;     // γ / (1 - β₁ᵗ)
    double inverse_root;  // 1 / √(1 - β₂ᵗ)
    double epsilon, gradient_scale;
    const double* norm;  // or null
    double max_norm;
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    std::int64_t count = 0;
    for (const Item<T>& item : a.items) count += item.count;
    return Work::moving<T>(7 * count);  // weight and moments both ways, the gradient one way
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
