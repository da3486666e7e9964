#include "ops/neighbor_attention.h"

#include "autograd/node.h"
#include "ops/attention_problem.h"
#include "ops/cast.h"

#include <algorithm>
#include <bit>

namespace sq {
namespace kernel {
namespace {

/// Pairs of a query and a live slot of it.
double live_pairs(const NeighborPlan& plan) {
  double pairs = 0;
  for (const TiledLists* lists : {&plan.keys, &plan.plain_keys}) {
    pairs += static_cast<double>(lists->rest.entry.size());
    for (const std::uint64_t rows : lists->rows) pairs += std::popcount(rows);
  }
  return pairs;
}

/// The keys that are read.
double live_keys(const NeighborAttentionProblem& p, double pairs) {
  return std::min(static_cast<double>(p.keys), pairs);
}

}  // namespace

template <class T>
Work NeighborAttentionForward::work(const Arguments<T>& a) {
  const double pairs = live_pairs(a.device_plan ? a.device_plan->host : *a.plan);
  return attention_forward_work<T>(a.problem, pairs, live_keys(a.problem, pairs));
}

template <class T>
Work NeighborAttentionBackward::work(const Arguments<T>& a) {
  const double pairs = live_pairs(a.device_plan ? a.device_plan->host : *a.plan);
  return attention_backward_work<T>(a.problem, pairs, live_keys(a.problem, pairs));
}

}  // namespace kernel

namespace {

constexpr std::string_view kName = "neighbor_attention";

void check(const Tensor& q, const Tensor& k, const Tensor& v, const NeighborList& list,
           const NeighborAttentionOptions& options) {
  check_attention(kName, q, k, v, options.dropout);
  require(list.query_count() == q.size(2) && list.keys == k.size(2), kName,
          "the neighbor list is for {} queries and {} keys, but q is {} and k is {}", list.query_count(), list.keys, q,
          k);
  require(options.plain_columns >= 0 && options.plain_columns <= list.indices.size(1), kName,
          "{} plain columns do not fit a list of {}", options.plain_columns, list.indices.size(1));
  if (options.plain_columns == 0) return;
  require(options.plain_q.defined(), kName, "{} plain columns need plain_q", options.plain_columns);
  require_same_kind(kName, {q, options.plain_q});
  require(options.plain_q.shape() == q.shape(), kName, "plain_q {} must have the shape of q {}", options.plain_q, q);
}

Tensor cast_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                      const std::shared_ptr<const NeighborList>& list, NeighborAttentionOptions options) {
  if (options.plain_columns > 0) options.plain_q = cast(options.plain_q, DType::f32);
  return cast(neighbor_attention(cast(q, DType::f32), cast(k, DType::f32), cast(v, DType::f32), list, options),
              q.dtype());
}

}  // namespace

Tensor neighbor_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const std::shared_ptr<const NeighborList>& list, const NeighborAttentionOptions& options) {
  require(list != nullptr, kName, "there is no neighbor list");
  check(q, k, v, *list, options);
  if (computes_in_f32(q)) return cast_attention(q, k, v, list, options);

  const auto problem =
      attention_problem<kernel::NeighborAttentionProblem>(kName, q, k, v, options.scale, options.dropout);
  const bool causal = options.causal;
  const std::int64_t plain_columns = options.plain_columns;
  const Tensor plain_q = plain_columns > 0 ? options.plain_q : Tensor();
  const Tensor queries = unit_rows(q), keys = unit_rows(k), values = unit_rows(v);
  const Tensor plain_queries = plain_q.defined() ? unit_rows(plain_q) : Tensor();
  Tensor y = empty_heads(q.size(0), q.size(1), q.size(2), v.size(3), q.options());
  Tensor log_sums = empty_log_sums(q);
  const bool on_gpu = q.device().is_cuda();
  visit_float(q, kName, [&]<class T>() {
    using Kernel = kernel::NeighborAttentionForward;
    launch<Kernel>(q.device(),
                   Kernel::Arguments<T>{
                       .problem = problem,
                       .plan = on_gpu ? nullptr : &list->forward_plan(causal, plain_columns),
                       .device_plan = on_gpu ? &list->device_plan(q.device(), causal, plain_columns, false) : nullptr,
                       .q = head_rows<T>(queries),
                       .plain_q = head_rows<T>(plain_queries),
                       .k = head_rows<T>(keys),
                       .v = head_rows<T>(values),
                       .y = head_rows<T>(y),
                       .log_sums = log_sums.data<Accumulator<T>>()});
  });
  const auto backward = [problem, list, causal, plain_columns](const Saved& saved, const Tensor& dy) -> Gradients {
    const bool plain = plain_columns > 0;
    const Tensor upstream = unit_rows(dy), plain_saved = plain ? saved[5] : Tensor();
    Tensor dq = gradient_heads(saved.wants(0), saved[0]);
    Tensor dk = gradient_heads(saved.wants(1), saved[1]);
    Tensor dv = gradient_heads(saved.wants(2), saved[2]);
    Tensor delta = Tensor::empty_like(saved[4]);
    Tensor dplain_q = gradient_heads(plain && saved.wants(3), saved[0]);
    const bool on_gpu = dy.device().is_cuda();
    visit_float(dy, kName, [&]<class T>() {
      using Kernel = kernel::NeighborAttentionBackward;
      launch<Kernel>(dy.device(),
                     Kernel::Arguments<T>{
                         .problem = problem,
                         .plan = on_gpu ? nullptr : &list->backward_plan(causal, plain_columns),
                         .device_plan = on_gpu ? &list->device_plan(dy.device(), causal, plain_columns, true) : nullptr,
                         .q = head_rows<T>(saved[0]),
                         .plain_q = head_rows<T>(plain_saved),
                         .k = head_rows<T>(saved[1]),
                         .v = head_rows<T>(saved[2]),
                         .y = head_rows<T>(saved[3]),
                         .dy = head_rows<T>(upstream),
                         .log_sums = saved[4].data<Accumulator<T>>(),
                         .delta = delta.data<Accumulator<T>>(),
                         .dq = head_rows<T>(dq),
                         .dplain_q = head_rows<T>(dplain_q),
                         .dk = head_rows<T>(dk),
                         .dv = head_rows<T>(dv)});
    });
    return plain ? Gradients{dq, dk, dv, dplain_q} : Gradients{dq, dk, dv};
  };
  if (!plain_q.defined()) return record(kName, {q, k, v}, y, {queries, keys, values, y, log_sums}, backward);
  return record(kName, {q, k, v, plain_q}, y, {queries, keys, values, y, log_sums, plain_queries}, backward);
}

}  // namespace sq
