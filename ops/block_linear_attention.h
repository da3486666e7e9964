// ops/block_linear_attention.h
#pragma once

#include "ops/attention_layout.h"
#include "tensor/profiler.h"
#include "tensor/tensor.h"

namespace sq {

/// Linear attention to earlier blocks only. With blocks of C = `block` positions, position t in block c = ⌊t/C⌋:
///   y_t = S_cᵀ q_t,   S_c = Σ_{c'<c} K_c'ᵀ V_c' = Σ_{j < c·C} k_j v_jᵀ
/// 0 in the first block. What a block's positions read of each other is left to exact attention (Hua et al. 2022,
/// "Transformer Quality in Linear Time", section 3.3, without the normalisation).
///
/// q, k [B,H,T,K], v [B,H,T,V] of one float dtype and device, any strides; 16-bit floats are computed in f32. Result
/// [B,H,T,V], in memory as [B,T,H,V].
///
/// One block after the other: Y_c = Q_c S, then S += K_cᵀ V_c, two products of C·K·V multiply-adds each, which are
/// themselves parallel. Only one state exists at a time, whatever T: for wide heads (K = V = 512, C = 128), states of
/// all blocks would be four times as large as q. Meant for few wide heads; for many narrow ones linear_attention, which
/// works on all blocks at once, is faster.
///
/// Saves q, k, v. Backward forms the states again from the first block to the last, and their gradients dS, which begin
/// as 0, from the last to the first:
///   dQ_c = dY_c Sᵀ;   dK_c = V_c dSᵀ,  dV_c = K_c dS,  then dS += Q_cᵀ dY_c
/// Throws Error on mismatched shapes, dtypes or devices and on a block below 1.
Tensor block_linear_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t block);

namespace kernel {

struct BlockLinearProblem {
  std::int64_t batch, heads, positions, width, value_width, block;

  std::int64_t blocks() const { return (positions + block - 1) / block; }
  /// Positions of block c.
  std::int64_t count(std::int64_t c) const { return c + 1 < blocks() ? block : positions - c * block; }
  Work work(double element_bytes, double products) const {
    const auto rows = static_cast<double>(batch * heads * positions), k = static_cast<double>(width),
               v = static_cast<double>(value_width);
    return {.flops = 2 * products * rows * k * v, .bytes = products * element_bytes * rows * (k + v)};
  }
};

struct BlockLinearForward {
  static constexpr std::string_view name = "block_linear_attention";
  template <class T>
  struct Arguments {
    BlockLinearProblem problem;
    HeadRows<const T> q, k, v;
    HeadRows<T> y;
    T* state;  // [B,H,K,V], 0 at first
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return a.problem.work(sizeof(T), 2);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct BlockLinearBackward {
  static constexpr std::string_view name = "block_linear_attention_backward";
  template <class T>
  struct Arguments {
    BlockLinearProblem problem;
    HeadRows<const T> q, k, v, dy;
    HeadRows<T> dq, dk, dv;
    T *state, *dstate;  // [B,H,K,V], 0 at first
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return a.problem.work(sizeof(T), 5);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
