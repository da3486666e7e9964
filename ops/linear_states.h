// ops/linear_states.h: what the operations with a memory per head, linear attention and the delta rule, share on the
// host: checks, sizes, and the memory for the states of all chunks.
#pragma once

#include "ops/dispatch.h"
#include "ops/linear_attention.h"

namespace sq {

inline void require_memory_shapes(std::string_view op, const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Tensor& log_decay, const Tensor& first_state) {
  require_same_kind(op, {q, k, v});
  require_attention_shapes(op, q, k, v);
  require(q.shape() == k.shape(), op, "q {} and k {} must have one shape [B,H,T,K]", q, k);
  if (log_decay.defined()) {
    require_same_kind(op, {q, log_decay});
    require(log_decay.shape() == Shape{q.size(0), q.size(1), q.size(2)} || log_decay.shape() == q.shape(), op,
            "log_decay {} must be [B,H,T] or [B,H,T,K] for q {}", log_decay, q);
  }
  if (first_state.defined()) {
    require_same_kind(op, {q, first_state});
    require(first_state.shape() == Shape{q.size(0), q.size(1), q.size(3), v.size(3)}, op,
            "first_state {} must be [B,H,K,V] for q {} and v {}", first_state, q, v);
  }
}

inline kernel::LinearAttentionProblem memory_problem(std::string_view op, const Tensor& q, const Tensor& v,
                                                     const Tensor& log_decay, double scale) {
  return {.batch = q.size(0),
          .heads = q.size(1),
          .positions = q.size(2),
          .width = q.size(3),
          .value_width = v.size(3),
          .scale = attention_scale(op, scale, q.size(3)),
          .decay_by_row = log_decay.defined() && log_decay.rank() == 4};
}

/// Memory for the states before every chunk and after the last.
inline Tensor empty_states(const kernel::LinearAttentionProblem& p, TensorOptions options) {
  return Tensor::empty({p.batch, p.heads, p.chunks() + 1, p.width, p.state_row()}, options);
}

/// A packed copy of state number `chunk`, [B,H,K,V].
inline Tensor state_copy(const kernel::LinearAttentionProblem& p, const Tensor& states, std::int64_t chunk) {
  const std::int64_t head = (p.chunks() + 1) * p.state_size();
  return packed_copy(states.alias({p.batch, p.heads, p.width, p.value_width}, {p.heads * head, head, p.state_row(), 1},
                                  chunk * p.state_size()));
}

inline Tensor packed_or_none(const Tensor& x) { return x.defined() ? packed(x) : x; }
template <class T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

}  // namespace sq
