#include "ops/delta_rule.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/linear_states.h"

namespace sq {
namespace {

constexpr std::string_view kName = "delta_rule";
constexpr std::int64_t kChunk = kernel::LinearAttentionProblem::kChunk;

void check(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& beta, const DeltaRuleOptions& options) {
  require_memory_shapes(kName, q, k, v, options.log_decay, options.first_state);
  require_same_kind(kName, {q, beta});
  require(beta.shape() == Shape{q.size(0), q.size(1), q.size(2)}, kName, "beta {} must be [B,H,T] for q {}", beta, q);
}

/// Memory for rows of V, whole chunks.
Tensor empty_chunk_rows(const kernel::LinearAttentionProblem& p, TensorOptions options) {
  return Tensor::empty({p.batch, p.heads, p.chunks(), kChunk, p.state_row()}, options);
}

Gradients backward(const kernel::LinearAttentionProblem& p, const Saved& saved, std::span<const Tensor> dys) {
  const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &beta = saved[3], &log_decay = saved[4];
  const Tensor &states = saved[5], &inverses = saved[6], &updates = saved[7];
  const Tensor dy =
      dys[0].defined() ? unit_rows(dys[0]) : Tensor::zeros({p.batch, p.heads, p.positions, p.value_width}, q.options());
  const Tensor dstate = packed_or_none(dys[1]);
  Tensor dq = empty_heads(p.batch, p.heads, p.positions, p.width, q.options());
  Tensor dk = empty_heads(p.batch, p.heads, p.positions, p.width, q.options());
  Tensor dv = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  Tensor dbeta = Tensor::empty_like(beta), dstates = empty_states(p, q.options());
  Tensor residuals = empty_chunk_rows(p, q.options());
  Tensor dlog_decay = log_decay.defined() && saved.wants(4) ? Tensor::empty_like(log_decay) : Tensor();
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::DeltaRuleBackward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_rows<T>(q),
                                                    .k = head_rows<T>(k),
                                                    .v = head_rows<T>(v),
                                                    .dy = head_rows<T>(dy),
                                                    .beta = beta.data<T>(),
                                                    .log_decay = data_or_null<T>(log_decay),
                                                    .states = states.data<T>(),
                                                    .inverses = inverses.data<T>(),
                                                    .updates = updates.data<T>(),
                                                    .dstate = data_or_null<T>(dstate),
                                                    .dq = head_rows<T>(dq),
                                                    .dk = head_rows<T>(dk),
                                                    .dv = head_rows<T>(dv),
                                                    .dbeta = dbeta.data<T>(),
                                                    .dlog_decay = dlog_decay.defined() ? dlog_decay.data<T>() : nullptr,
                                                    .dstates = dstates.data<T>(),
                                                    .residuals = residuals.data<T>()});
  });
  return {dq, dk, dv, dbeta, dlog_decay, saved.wants(5) ? state_copy(p, dstates, 0) : Tensor()};
}

}  // namespace

DeltaRuleResult delta_rule(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& beta,
                           const DeltaRuleOptions& options) {
  check(q, k, v, beta, options);
  if (is_half(q.dtype())) {
    const auto wide = [](const Tensor& x) { return x.defined() ? cast(x, DType::f32) : x; };
    const DeltaRuleResult result = delta_rule(
        wide(q), wide(k), wide(v), wide(beta),
        {.scale = options.scale, .log_decay = wide(options.log_decay), .first_state = wide(options.first_state)});
    return {cast(result.y, q.dtype()), cast(result.state, q.dtype())};
  }
  const kernel::LinearAttentionProblem p = memory_problem(kName, q, v, options.log_decay, options.scale);
  const Tensor queries = unit_rows(q), keys = unit_rows(k), values = unit_rows(v), strengths = packed(beta);
  const Tensor log_decay = packed_or_none(options.log_decay), first = packed_or_none(options.first_state);
  Tensor y = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  Tensor states = empty_states(p, q.options()), updates = empty_chunk_rows(p, q.options());
  Tensor inverses = Tensor::empty({p.batch, p.heads, p.chunks(), kChunk, kChunk}, q.options());
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::DeltaRuleForward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_rows<T>(queries),
                                                    .k = head_rows<T>(keys),
                                                    .v = head_rows<T>(values),
                                                    .beta = strengths.data<T>(),
                                                    .log_decay = data_or_null<T>(log_decay),
                                                    .first_state = data_or_null<T>(first),
                                                    .y = head_rows<T>(y),
                                                    .states = states.data<T>(),
                                                    .inverses = inverses.data<T>(),
                                                    .updates = updates.data<T>()});
  });
  std::vector<Tensor> results = record_many(
      kName, {q, k, v, beta, options.log_decay, options.first_state}, {y, state_copy(p, states, p.chunks())},
      {queries, keys, values, strengths, log_decay, states, inverses, updates},
      [p](const Saved& saved, std::span<const Tensor> dys) { return backward(p, saved, dys); });
  return {results[0], results[1]};
}

}  // namespace sq
