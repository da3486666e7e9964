// ops/cpu/neighbor_attention_backward.cpp: gradients in two passes over the same pairs, one from either side, so that
// every gradient row has one writer: no atomics, no copies to add up, the same bits for any number of threads.
//
// With the weights a = 2^(s - L·log2 e), s = q·k scale·log2 e, and δ_i = dy_i·y_i:
//     by queries   ds_c = scale · a_c (dy·v_c - δ),   dq = Σ_c ds_c k_c                       (lists of keys)
//     by keys      dv = Σ_i a_i dy_i,                 dk = Σ_i scale · a_i (v·dy_i - δ_i) q_i  (lists of queries)
// Both passes are products of one vector with listed rows followed by weighted sums of listed rows; the weights are
// computed in each, which costs less than storing them. The gradient of a key/value head sums over the query heads that
// share it, in order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/neighbor_attention_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/neighbor_rows-inl.h"
#include "ops/cpu/versions.h"
#include "ops/neighbor_attention.h"
#include "tensor/cpu/threads.h"

#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kRowsPerTask = 32;
constexpr std::int64_t kChunk = 512;  // entries of a list worked on at a time: a key may be read by every query

/// Weights and slopes of one list, or of a part of it.
template <class T>
struct RowBuffers {
  T *weights, *slopes;
};

/// a_n = 2^(s_n - L_n) and ds_n = scale · a_n (t_n - δ_n), in place of s and t; then dropout on both.
/// `log_sum(n)` and `delta(n)` give vectors, or scalars at the end.
template <class T, class LogSum, class Delta, class Keep>
HWY_INLINE void slopes_of(const NeighborAttentionProblem& p, const RowBuffers<T>& buffer, std::int64_t count,
                          LogSum log_sum, Delta delta, Keep keep) {
  const hn::ScalableTag<T> d;
  const T log2e = static_cast<T>(std::numbers::log2e), scale = static_cast<T>(p.scale);
  T *a = buffer.weights, *t = buffer.slopes;
  for (std::int64_t n = 0; n < count; ++n) a[n] = a[n] * (scale * log2e) - log_sum(n) * log2e;
  map(a, a, count, [&](auto s) HWY_ATTR { return exp2(d, s); });
  const bool dropout = p.dropout.p > 0;
  for (std::int64_t n = 0; n < count; ++n) {
    const T factor = dropout ? keep(n) : T(1);
    t[n] = scale * a[n] * (t[n] * factor - delta(n));
    a[n] *= factor;
  }
}

/// dq of one query (or dplain_q, with the plain slots): Σ_c ds_c k_c.
template <class T>
void backward_query(const NeighborAttentionBackward::Arguments<T>& a, const HeadRows<const T>& q, const HeadRows<T>& dq,
                    const RaggedLists& keys, const T* delta, std::int64_t b, std::int64_t h, std::int64_t query,
                    const RowBuffers<T>& buffer) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), count = keys.count(query);
  const std::int64_t row = (b * p.heads + h) * p.queries + query;
  const std::int32_t *entries = keys.entries(query), *repeats = keys.repeats(query);
  T* out = dq.at(b, h, query);
  std::fill_n(out, p.width, T(0));
  dots(q.at(b, h, query), p.width, count, listed(a.k, b, kv_head, entries), buffer.weights);
  dots(a.dy.at(b, h, query), p.value_width, count, listed(a.v, b, kv_head, entries), buffer.slopes);
  slopes_of(
      p, buffer, count, [&](std::int64_t) { return a.log_sums[row]; }, [&](std::int64_t) { return delta[row]; },
      [&](std::int64_t n) { return kept<T>(p, b, h, query, entries[n], repeats ? repeats[n] : 0); });
  add_weighted(buffer.slopes, p.width, count, listed(a.k, b, kv_head, entries), out);
}

/// What the queries in one list of key `key` add to its dk and dv.
template <class T>
void backward_key(const NeighborAttentionBackward::Arguments<T>& a, const HeadRows<const T>& q,
                  const RaggedLists& queries, const T* delta, std::int64_t b, std::int64_t h, std::int64_t key,
                  const RowBuffers<T>& buffer) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), total = queries.count(key);
  const std::int64_t row = (b * p.heads + h) * p.queries;
  for (std::int64_t first = 0; first < total; first += kChunk) {
    const std::int64_t count = std::min(kChunk, total - first);
    const std::int32_t* entries = queries.entries(key) + first;
    const std::int32_t* repeats = queries.repeats(key);
    dots(a.k.at(b, kv_head, key), p.width, count, listed(q, b, h, entries), buffer.weights);
    dots(a.v.at(b, kv_head, key), p.value_width, count, listed(a.dy, b, h, entries), buffer.slopes);
    slopes_of(
        p, buffer, count, [&](std::int64_t n) { return a.log_sums[row + entries[n]]; },
        [&](std::int64_t n) { return delta[row + entries[n]]; },
        [&](std::int64_t n) { return kept<T>(p, b, h, entries[n], key, repeats ? repeats[first + n] : 0); });
    if (a.dk) add_weighted(buffer.slopes, p.width, count, listed(q, b, h, entries), a.dk.at(b, kv_head, key));
    if (a.dv) add_weighted(buffer.weights, p.value_width, count, listed(a.dy, b, h, entries), a.dv.at(b, kv_head, key));
  }
}

/// Calls row(b, kv_head, i, buffers) for every batch row, key/value head and list number i, in parallel.
template <class T, class Row>
void for_rows(const NeighborAttentionProblem& p, const RaggedLists& lists, std::int64_t longest, Row row) {
  for_lists(p, lists, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
    Scratch<T> scratch(2 * row_buffer(longest));
    T* weights = scratch.take(row_buffer(longest));
    const RowBuffers<T> buffer{weights, scratch.take(row_buffer(longest))};
    for (std::int64_t n = begin; n < end; ++n) {
      const std::int64_t head = n / lists.lists();
      row(head / p.kv_heads, head % p.kv_heads, n % lists.lists(), buffer);
    }
  });
}

template <class T>
void backward(const NeighborAttentionBackward::Arguments<T>& a) {
  const NeighborAttentionProblem& p = a.problem;
  const NeighborPlan& plan = *a.plan;
  const std::int64_t group = p.heads / p.kv_heads;
  Scratch<T> scratch(p.batch * p.heads * p.queries);
  T* delta = scratch.take(p.batch * p.heads * p.queries);
  cpu::parallel_for(p.batch * p.heads * p.queries, 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t i = row % p.queries, h = row / p.queries % p.heads, b = row / p.queries / p.heads;
      delta[row] = dot(a.y.at(b, h, i), a.dy.at(b, h, i), p.value_width);
    }
  });
  const std::int64_t slots = std::max(plan.keys.longest, plan.plain_keys.longest);
  if (a.dq || a.dplain_q)
    for_rows<T>(p, plan.keys, slots,
                [&](std::int64_t b, std::int64_t kv_head, std::int64_t query, const RowBuffers<T>& buffer) {
                  for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
                    if (a.dq) backward_query(a, a.q, a.dq, plan.keys, delta, b, h, query, buffer);
                    if (a.dplain_q)
                      backward_query(a, a.plain_q, a.dplain_q, plan.plain_keys, delta, b, h, query, buffer);
                  }
                });
  if (a.dk || a.dv)
    for_rows<T>(p, plan.queries, kChunk,
                [&](std::int64_t b, std::int64_t kv_head, std::int64_t key, const RowBuffers<T>& buffer) {
                  if (a.dk) std::fill_n(a.dk.at(b, kv_head, key), p.width, T(0));
                  if (a.dv) std::fill_n(a.dv.at(b, kv_head, key), p.value_width, T(0));
                  for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
                    backward_key(a, a.q, plan.queries, delta, b, h, key, buffer);
                    if (a.plain_q) backward_key(a, a.plain_q, plan.plain_queries, delta, b, h, key, buffer);
                  }
                });
}

}  // namespace

Versions<NeighborAttentionBackward> neighbor_attention_backward_versions() {
  return {backward<float>, backward<double>};
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(neighbor_attention_backward_versions);

template <class T>
void NeighborAttentionBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(neighbor_attention_backward_versions)()(a);
}
template void NeighborAttentionBackward::cpu(const Arguments<float>&);
template void NeighborAttentionBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
