#include "ops/dense_attention.h"

#include "autograd/node.h"
#include "ops/attention_problem.h"
#include "ops/cast.h"

#include <algorithm>

namespace sq {
namespace kernel {
namespace {

/// (query, key) pairs of one head that take part; -1 when they depend on lengths.
double live_pairs(const DenseAttentionProblem& p) {
  if (p.lengths != nullptr) return -1;
  double pairs = 0;
  for (std::int64_t i = 0; i < p.queries; ++i) {
    const std::int64_t place = i + p.keys - p.queries;
    const std::int64_t end = p.causal ? place + 1 : p.keys;
    const std::int64_t begin = p.window > 0 ? std::max<std::int64_t>(0, place - p.window + 1) : 0;
    pairs += static_cast<double>(std::max<std::int64_t>(0, end - begin));
  }
  return pairs;
}

}  // namespace

template <class T>
Work DenseAttentionForward::work(const Arguments<T>& a) {
  return attention_forward_work<T>(a.problem, live_pairs(a.problem), static_cast<double>(a.problem.keys));
}

template <class T>
Work DenseAttentionBackward::work(const Arguments<T>& a) {
  return attention_backward_work<T>(a.problem, live_pairs(a.problem), static_cast<double>(a.problem.keys));
}

}  // namespace kernel

namespace {

constexpr std::string_view kName = "dense_attention";

/// The lengths as packed i64, checked; undefined stays undefined.
Tensor checked_lengths(const Tensor& lengths, std::int64_t batch, std::int64_t keys, Device device) {
  if (!lengths.defined()) return {};
  require(lengths.rank() == 1 && lengths.size(0) == batch &&
              (lengths.dtype() == DType::i64 || lengths.dtype() == DType::i32),
          kName, "lengths {} must be i64 or i32 [{}], one for each batch row", lengths, batch);
  Tensor result = packed_copy(lengths, DType::i64);
  const Tensor on_host = moved(result, Device{});
  const auto* values = on_host.data<std::int64_t>();
  for (std::int64_t b = 0; b < batch; ++b)
    require(values[b] >= 0 && values[b] <= keys, kName, "length {} of batch row {} is outside 0 … {}", values[b], b,
            keys);
  return moved(result, device);
}

const std::int64_t* values_or_null(const Tensor& lengths) {
  return lengths.defined() ? lengths.data<std::int64_t>() : nullptr;
}

}  // namespace

Tensor dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, const DenseAttentionOptions& options) {
  check_attention(kName, q, k, v, options.dropout);
  require(options.window >= 0, kName, "window {} is negative", options.window);
  if (computes_in_f32(q))
    return cast(dense_attention(cast(q, DType::f32), cast(k, DType::f32), cast(v, DType::f32), options), q.dtype());

  const Tensor lengths = checked_lengths(options.lengths, q.size(0), k.size(2), q.device());
  auto problem = attention_problem<kernel::DenseAttentionProblem>(kName, q, k, v, options.scale, options.dropout);
  problem.causal = options.causal;
  problem.window = options.window;
  const Tensor queries = unit_rows(q), keys = unit_rows(k), values = unit_rows(v);
  Tensor y = empty_heads(problem.batch, problem.heads, problem.queries, problem.value_width, q.options());
  Tensor log_sums = empty_log_sums(q);
  problem.lengths = values_or_null(lengths);
  visit_float(q, kName, [&]<class T>() {
    using Kernel = kernel::DenseAttentionForward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = problem,
                                                    .q = head_rows<T>(queries),
                                                    .k = head_rows<T>(keys),
                                                    .v = head_rows<T>(values),
                                                    .y = head_rows<T>(y),
                                                    .log_sums = log_sums.data<Accumulator<T>>()});
  });
  return record(kName, {q, k, v}, y, {queries, keys, values, y, log_sums},
                [problem, lengths](const Saved& saved, const Tensor& dy) -> Gradients {
                  kernel::DenseAttentionProblem backward_problem = problem;
                  backward_problem.lengths = values_or_null(lengths);
                  const Tensor upstream = unit_rows(dy);
                  Tensor dq = gradient_heads(saved.wants(0), saved[0]);
                  Tensor dk = gradient_heads(saved.wants(1), saved[1]);
                  Tensor dv = gradient_heads(saved.wants(2), saved[2]);
                  visit_float(dy, kName, [&]<class T>() {
                    using Kernel = kernel::DenseAttentionBackward;
                    launch<Kernel>(dy.device(), Kernel::Arguments<T>{.problem = backward_problem,
                                                                     .q = head_rows<T>(saved[0]),
                                                                     .k = head_rows<T>(saved[1]),
                                                                     .v = head_rows<T>(saved[2]),
                                                                     .y = head_rows<T>(saved[3]),
                                                                     .dy = head_rows<T>(upstream),
                                                                     .log_sums = saved[4].data<Accumulator<T>>(),
                                                                     .dq = head_rows<T>(dq),
                                                                     .dk = head_rows<T>(dk),
                                                                     .dv = head_rows<T>(dv)});
                  });
                  return {dq, dk, dv};
                });
}

}  // namespace sq
