// ops/attention_problem.h: what the attention operations do before and after their kernels, in one place.
#pragma once

#include "ops/attention_layout.h"
#include "ops/dispatch.h"
#include "tensor/random.h"

namespace sq {

/// Throws Error unless q, k and v fit each other and the dropout is a share.
inline void check_attention(std::string_view op, const Tensor& q, const Tensor& k, const Tensor& v, double dropout) {
  require_same_kind(op, {q, k, v});
  require_attention_shapes(op, q, k, v);
  require_dropout(op, dropout);
}

/// A kernel's problem with what all of them have: sizes, the factor on scores, and dropout with the next stream of
/// default_generator() where there is any.
template <class Problem>
Problem attention_problem(std::string_view op, const Tensor& q, const Tensor& k, const Tensor& v, double scale,
                          double dropout) {
  Problem problem{};
  problem.batch = q.size(0);
  problem.heads = q.size(1);
  problem.kv_heads = k.size(1);
  problem.queries = q.size(2);
  problem.keys = k.size(2);
  problem.width = q.size(3);
  problem.value_width = v.size(3);
  problem.scale = attention_scale(op, scale, q.size(3));
  problem.dropout.p = dropout;
  if (dropout > 0) {
    problem.dropout.seed = default_generator().seed;
    problem.dropout.stream = default_generator().take_stream();
  }
  return problem;
}

/// Uninitialised memory for the log-sum of each query of q [B,H,Tq,D]: 16-bit floats would lose the weights.
inline Tensor empty_log_sums(const Tensor& q) {
  return Tensor::empty({q.size(0), q.size(1), q.size(2)}, {is_half(q.dtype()) ? DType::f32 : q.dtype(), q.device()});
}

namespace kernel {

/// `width` products for each of so many (query, key) pairs of a head, unknown when there are fewer than 0, and `row`
/// elements moved for each query of each head and each of `keys` keys of each key head.
template <class T, class Problem>
Work attention_work(const Problem& p, double pairs, double keys, std::int64_t width, std::int64_t row) {
  const double rows = static_cast<double>(p.heads * p.queries) + static_cast<double>(p.kv_heads) * keys;
  return {.flops = pairs < 0 ? Work::kUnknown : 2 * pairs * static_cast<double>(p.batch * p.heads * width),
          .bytes = sizeof(T) * static_cast<double>(p.batch * row) * rows};
}

/// Scores and sums of values; q, k, v are read, y written.
template <class T, class Problem>
Work attention_forward_work(const Problem& p, double pairs, double keys) {
  return attention_work<T>(p, pairs, keys, p.width + p.value_width, p.width + p.value_width);
}

/// Scores again, dy·v, and what each pair adds to dv, dq and dk; q, k, v, y, dy are read, dq, dk, dv written.
template <class T, class Problem>
Work attention_backward_work(const Problem& p, double pairs, double keys) {
  return attention_work<T>(p, pairs, keys, 3 * p.width + 2 * p.value_width, 2 * p.width + 2 * p.value_width);
}

}  // namespace kernel

/// Uninitialised memory for the gradient of `input` [B,H,T,D], or undefined when it is not wanted.
inline Tensor gradient_heads(bool wanted, const Tensor& input) {
  return wanted ? empty_heads(input.size(0), input.size(1), input.size(2), input.size(3), input.options()) : Tensor();
}

}  // namespace sq
