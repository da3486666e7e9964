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
//
// On a GPU nobody waits to see the targets: one that is neither ignored nor a class makes its position's loss and
// gradient NaN, and ignoring all of them makes the mean NaN, where the CPU throws.

/// The mean loss, a tensor of rank 0. logits [..., V], targets [...].
/// Saves logits, targets and lse: probabilities are formed again in the backward pass, directly in the gradient.
/// Throws Error when every target is ignored (a mean over nothing).
Tensor cross_entropy(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options = {});

/// cross_entropy(x Wᵀ, targets) with x [..., C] and W [V,C], without ever holding the logits of all positions: they
/// exist for a block of positions at a time. Where gradients are wanted they are formed on the way, block by block,
/// while the block's logits are at hand: dx = dz W, dW = dzᵀ x. So the three matrix products run once each, and
/// backward only scales by dy.  Saves dx and dW, those of 16-bit operands in f32. In memory: the gradients and a block
/// of at most 2²⁴ logits (or 16 positions); on a GPU, whose products want more rows, 2²⁶ or a quarter of all logits,
/// whichever is less, but 2²² at least.
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
    Accumulator<T>* losses;  // [rows]
    Accumulator<T>* lse;     // [rows], or null
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
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
    const Accumulator<T>* lse;
    const double* counted;     // one number: n
    const Accumulator<T>* dy;  // one number, or null for 1
    T* dlogits;                // [rows, columns]; may be `logits`
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.rows * a.columns);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// How many targets are not `ignore_index`.
struct CountTargets {
  static constexpr std::string_view name = "count_targets";
  template <class T>
  struct Arguments {
    std::int64_t count;
    const std::int64_t* targets;  // [count]
    std::int64_t ignore_index;
    T* counted;  // one number
  };
  static void cpu(const Arguments<double>& a);
  static void cuda(const cuda::Context& context, const Arguments<double>& a);
};

/// The sum of the losses, in double and in order, divided by `counted`.
struct MeanLoss {
  static constexpr std::string_view name = "mean_loss";
  template <class T>
  struct Arguments {
    std::int64_t count;
    const T* losses;        // [count]
    const double* counted;  // one number
    T* mean;                // one number
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// y = dy · x, rounded to T.
struct ScaledGradient {
  static constexpr std::string_view name = "linear_cross_entropy_backward";
  template <class T>
  struct Arguments {
    std::int64_t count;
    const Accumulator<T>* x;   // [count]
    const Accumulator<T>* dy;  // one number
    T* y;                      // [count]; may be x
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return {.flops = Work::kUnknown,
            .bytes = Work::moving<T>(a.count).bytes + Work::moving<Accumulator<T>>(a.count).bytes};
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
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
    const double* counted;    // one number
    Accumulator<T>* losses;   // [rows]
    Accumulator<T>* dx;       // [rows, width], or null when not wanted
    Accumulator<T>* dweight;  // [columns, width], or null when not wanted
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
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// How many targets are not `ignore_index`, as an f64 of rank 0 where they are. Throws Error naming `op` when it is
/// known (on the CPU) that none is left.
Tensor count_targets(std::string_view op, const Tensor& targets, std::int64_t ignore_index);
/// The mean of `losses` over `counted` of them, of rank 0.
Tensor mean_loss(const Tensor& losses, const Tensor& counted);

}  // namespace kernel
}  // namespace sq
