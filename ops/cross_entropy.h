// ops/cross_entropy.h: the loss of a language model.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

struct CrossEntropyOptions {
  std::int64_t ignore_index = -100;  // positions with this target do not count
  double label_smoothing = 0;        // σ in [0,1): this share of the target is spread evenly over all V classes
};

// With logits z [N,V], targets t [N], lse = ln Σ_v e^(z_v) and σ the label smoothing, one position costs (in nats)
//   ℓ = lse - (1 - σ) z_t - σ mean_v z_v,
// and the loss is the mean of ℓ over the n counted positions. All leading axes are flattened into N.
// Gradient:  dz_v = (dy/n) · (e^(z_v - lse) - (1 - σ)[v = t] - σ/V), and 0 at ignored positions.
// Floats of any dtype (16-bit ones are computed in f32, and their loss is f32); targets i64 or i32. The functions throw
// Error when shapes or dtypes do not fit, when a target is neither the ignored one nor in 0 … V-1 (naming it), and when
// σ is outside [0,1). Sums over positions run in double and in order.

/// The mean loss, a tensor of rank 0. logits [..., V], targets [...].
/// Saves logits, targets and lse: probabilities are formed again in the backward pass, directly in the gradient.
/// Throws Error when every target is ignored (a mean over nothing).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options = {});

/// cross_entropy(x Wᵀ, targets) with x [..., C] and W [V,C], without ever holding the logits of all positions: they
/// exist for a block of positions at a time. Where gradients are wanted they are formed on the way, block by block,
/// while the block's logits are at hand: dx = dz W, dW = dzᵀ x. So the three matrix products run once each, and
/// backward only scales by dy.  Saves dx and dW. In memory: the gradients and a block of at most 2²⁴ logits (or 16
/// positions).
Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            const CrossEntropyOptions& options = {});

/// ℓ of each position, 0 where ignored; no gradient. logits [..., V], targets [...]; result [...].
Tensor token_losses(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options = {});

namespace kernel {

struct CrossEntropyForward {
  static constexpr std::string_view name = "cross_entropy";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* logits;              // [rows, columns]
    const std::int64_t* targets;  // [rows]
    std::int64_t ignore_index;
    double label_smoothing;
    T* losses;  // [rows]
    T* lse;     // [rows], or null
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
};

struct CrossEntropyBackward {
  static constexpr std::string_view name = "cross_entropy_backward";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns;
    const T* logits;
    const std::int64_t* targets;
    std::int64_t ignore_index;
    double label_smoothing;
    const T* lse;
    double scale;  // dy / n
    T* dlogits;    // [rows, columns]; may be `logits`
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
};

/// Losses of z = x Wᵀ and, where wanted, the gradients of their sum divided by `counted`.
struct LinearCrossEntropy {
  static constexpr std::string_view name = "linear_cross_entropy";
  template <class T>
  struct Arguments {
    std::int64_t rows, columns, width;  // N, V, C
    const T* x;                         // [rows, width]
    const T* weight;                    // [columns, width]
    const std::int64_t* targets;        // [rows]
    std::int64_t ignore_index;
    double label_smoothing;
    std::int64_t counted;
    T* losses;   // [rows]
    T* dx;       // [rows, width], or null when not wanted
    T* dweight;  // [columns, width], or null when not wanted
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    const auto product = 2.0 * static_cast<double>(a.rows * a.columns) * static_cast<double>(a.width);
    const int gradients = (a.dx != nullptr) + (a.dweight != nullptr);
    const std::int64_t rows = a.rows * (a.dx != nullptr ? 2 : 1), columns = a.columns * (a.dweight != nullptr ? 2 : 1);
    return {.flops = product * (1 + gradients), .bytes = Work::moving<T>((rows + columns) * a.width).bytes};
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
};

/// How many targets are not `ignore_index`. Throws Error naming `op` when none is left.
std::int64_t count_targets(std::string_view op, const Tensor& targets, std::int64_t ignore_index);

}  // namespace kernel
}  // namespace sq
