#include "ops/linear_attention.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/linear_states.h"

namespace sq {
namespace {

constexpr std::string_view kName = "linear_attention";

Gradients backward(const kernel::LinearAttentionProblem& p, const Saved& saved, std::span<const Tensor> dys) {
  const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &states = saved[3], &log_decay = saved[4];
  const Tensor dy =
      dys[0].defined() ? unit_rows(dys[0]) : Tensor::zeros({p.batch, p.heads, p.positions, p.value_width}, q.options());
  const Tensor dstate = packed_or_none(dys[1]);
  Tensor dq = empty_heads(p.batch, p.heads, p.positions, p.width, q.options());
  Tensor dk = empty_heads(p.batch, p.heads, p.positions, p.width, q.options());
  Tensor dv = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  Tensor dstates = empty_states(p, q.options());
  Tensor dlog_decay = log_decay.defined() && saved.wants(3) ? Tensor::empty_like(log_decay) : Tensor();
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::LinearAttentionBackward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_rows<T>(q),
                                                    .k = head_rows<T>(k),
                                                    .v = head_rows<T>(v),
                                                    .dy = head_rows<T>(dy),
                                                    .log_decay = data_or_null<T>(log_decay),
                                                    .states = states.data<T>(),
                                                    .dstate = data_or_null<T>(dstate),
                                                    .dq = head_rows<T>(dq),
                                                    .dk = head_rows<T>(dk),
                                                    .dv = head_rows<T>(dv),
                                                    .dlog_decay = dlog_decay.defined() ? dlog_decay.data<T>() : nullptr,
                                                    .dstates = dstates.data<T>()});
  });
  return {dq, dk, dv, dlog_decay, saved.wants(4) ? state_copy(p, dstates, 0) : Tensor()};
}

}  // namespace

LinearAttentionResult linear_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                       const LinearAttentionOptions& options) {
  require_memory_shapes(kName, q, k, v, options.log_decay, options.first_state);
  if (is_half(q.dtype())) {
    const auto wide = [](const Tensor& x) { return x.defined() ? cast(x, DType::f32) : x; };
    const LinearAttentionResult result = linear_attention(
        wide(q), wide(k), wide(v),
        {.scale = options.scale, .log_decay = wide(options.log_decay), .first_state = wide(options.first_state)});
    return {cast(result.y, q.dtype()), cast(result.state, q.dtype())};
  }
  const kernel::LinearAttentionProblem p = memory_problem(kName, q, v, options.log_decay, options.scale);
  const Tensor queries = unit_rows(q), keys = unit_rows(k), values = unit_rows(v);
  const Tensor log_decay = packed_or_none(options.log_decay), first = packed_or_none(options.first_state);
  Tensor y = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  Tensor states = empty_states(p, q.options());
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::LinearAttentionForward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_rows<T>(queries),
                                                    .k = head_rows<T>(keys),
                                                    .v = head_rows<T>(values),
                                                    .log_decay = data_or_null<T>(log_decay),
                                                    .first_state = data_or_null<T>(first),
                                                    .y = head_rows<T>(y),
                                                    .states = states.data<T>()});
  });
  std::vector<Tensor> results =
      record_many(kName, {q, k, v, options.log_decay, options.first_state}, {y, state_copy(p, states, p.chunks())},
                  {queries, keys, values, states, log_decay},
                  [p](const Saved& saved, std::span<const Tensor> dys) { return backward(p, saved, dys); });
  return {results[0], results[1]};
}

}  // namespace sq
