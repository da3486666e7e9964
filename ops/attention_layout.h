// ops/attention_layout.h: how the attention operations see tensors [B,H,T,D], and what they have in common.
#pragma once

#include "tensor/memory.h"
#include "tensor/tensor.h"

#include <cmath>
#include <cstdint>

namespace sq {

namespace kernel {

/// Rows of D neighbouring elements; any distances between batches, heads and positions.
template <class T>
struct HeadRows {
  T* data = nullptr;
  std::int64_t batch = 0, head = 0, row = 0;  // distances in elements

  constexpr T* at(std::int64_t b, std::int64_t h, std::int64_t t = 0) const {
    return data + b * batch + h * head + t * row;
  }
  constexpr explicit operator bool() const { return data != nullptr; }
};

/// Dropout on attention weights: weight number n of a call survives when its random number is at least `p`, and is then
/// divided by 1 - p. The weight of query i of head h of batch row b on key j has the number ((b·H + h)·Tq + i)·Tk + j.
struct WeightDropout {
  double p = 0;
  std::uint64_t seed = 0, stream = 0;
};

}  // namespace kernel

/// Uninitialised [B,H,T,D] that lies in memory as [B,T,H,D], so that merging the heads costs nothing.
inline Tensor empty_heads(std::int64_t batch, std::int64_t heads, std::int64_t positions, std::int64_t width,
                          TensorOptions options) {
  return Tensor::empty({batch, positions, heads, width}, options)
      .alias({batch, heads, positions, width}, {positions * heads * width, width, heads * width, 1}, 0);
}

/// `x` itself when its last axis has stride 1, else a packed copy.
inline Tensor unit_rows(const Tensor& x) {
  return x.rank() == 0 || x.strides()[x.rank() - 1] == 1 || x.size(-1) <= 1 ? x : packed_copy(x);
}

template <class T>
kernel::HeadRows<T> head_rows(Tensor& x) {
  if (!x.defined()) return {};
  return {x.data<T>(), x.strides()[0], x.strides()[1], x.strides()[2]};
}
template <class T>
kernel::HeadRows<const T> head_rows(const Tensor& x) {
  if (!x.defined()) return {};
  return {x.data<T>(), x.strides()[0], x.strides()[1], x.strides()[2]};
}

/// The checks that all attention shares: q [B,H,Tq,D], k [B,Hkv,Tk,D], v [B,Hkv,Tk,Dv], H a multiple of Hkv.
inline void require_attention_shapes(std::string_view op, const Tensor& q, const Tensor& k, const Tensor& v) {
  require(q.rank() == 4 && k.rank() == 4 && v.rank() == 4, op, "q {}, k {}, v {} must have the axes [B,H,T,D]", q, k,
          v);
  require(q.size(0) == k.size(0) && q.size(0) == v.size(0), op, "q {}, k {}, v {} differ in their batch size", q, k, v);
  require(k.size(1) == v.size(1) && k.size(2) == v.size(2), op, "k {} and v {} differ in heads or positions", k, v);
  require(q.size(3) == k.size(3), op, "q {} and k {} differ in head width", q, k);
  require(q.size(3) >= 1 && v.size(3) >= 1, op, "q {} and v {} need a head width of at least 1", q, v);
  require(k.size(1) >= 1 && q.size(1) % k.size(1) == 0, op,
          "{} query heads cannot be shared evenly by {} key/value heads", q.size(1), k.size(1));
}

/// The factor on scores: 1/√D unless given.
inline double attention_scale(std::string_view op, double scale, std::int64_t width) {
  require(std::isfinite(scale), op, "scale {} is not finite", scale);
  return scale == 0 ? 1 / std::sqrt(static_cast<double>(width)) : scale;
}

inline void require_dropout(std::string_view op, double p) {
  require(p >= 0 && p < 1, op, "dropout {} is outside [0, 1)", p);
}

}  // namespace sq
