// ops/cpu/neighbor_attention.cpp: the forward pass. Keys and values are read where they lie, never gathered.
//
// For query i of head h with the live slots c:
//     s_c = q·k_nb(c) · scale·log2 e        one product of a vector with listed rows
//     m   = max s,  a_c = 2^(s_c - m),  l = Σ a
//     y   = Σ a_c v_nb(c) / l               one weighted sum of listed rows
// The scores of one query fit in the first cache. The heads that share a key/value head are computed one after the
// other, so that the rows they read come from there too. Tasks are (batch row, key/value head, block of queries).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/neighbor_attention.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/neighbor_attention.h"

#include "ops/cpu/neighbor_rows-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <cmath>
#include <limits>
#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kQueriesPerTask = 32;

template <class T>
void forward_query(const NeighborAttentionForward::Arguments<T>& a, std::int64_t b, std::int64_t h, std::int64_t query,
                   T* weights) {
  const NeighborAttentionProblem& p = a.problem;
  const RaggedLists &keys = a.plan->keys, &plain = a.plan->plain_keys;
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), count = keys.count(query), plain_count = plain.count(query);
  T* y = a.y.at(b, h, query);
  T& log_sum = a.log_sums[(b * p.heads + h) * p.queries + query];
  std::fill_n(y, p.value_width, T(0));
  log_sum = std::numeric_limits<T>::infinity();
  if (count + plain_count == 0) return;

  // The plain slots come last: `dots` may write a little beyond its rows.
  dots(a.q.at(b, h, query), p.width, count, listed(a.k, b, kv_head, keys.entries(query)), weights);
  if (plain_count > 0)
    dots(a.plain_q.at(b, h, query), p.width, plain_count, listed(a.k, b, kv_head, plain.entries(query)),
         weights + count);
  const std::int64_t all = count + plain_count;
  scale_row(weights, all, static_cast<T>(p.scale * std::numbers::log2e));
  const T most = maximum(weights, all);
  const hn::ScalableTag<T> d;
  const auto shift = hn::Set(d, most);
  map(weights, weights, all, [&](auto s) HWY_ATTR { return exp2(d, hn::Sub(s, shift)); });
  const T total = sum(weights, all);
  log_sum = most * static_cast<T>(std::numbers::ln2) + std::log(total);

  scale_row(weights, all, 1 / total);
  if (p.dropout.p > 0)
    for (std::int64_t n = 0; n < all; ++n) {
      const bool is_plain = n >= count;
      const RaggedLists& lists = is_plain ? plain : keys;
      const std::int64_t slot = is_plain ? n - count : n;
      const std::int32_t* repeats = lists.repeats(query);
      weights[n] *= kept<T>(p, b, h, query, lists.entries(query)[slot], repeats ? repeats[slot] : 0);
    }
  add_weighted(weights, p.value_width, count, listed(a.v, b, kv_head, keys.entries(query)), y);
  add_weighted(weights + count, p.value_width, plain_count, listed(a.v, b, kv_head, plain.entries(query)), y);
}

template <class T>
void forward(const NeighborAttentionForward::Arguments<T>& a) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t group = p.heads / p.kv_heads;
  for_lists(p, a.plan->keys, kQueriesPerTask, [&](std::int64_t begin, std::int64_t end) {
    Scratch<T> scratch(row_buffer(a.plan->keys.longest + a.plan->plain_keys.longest));
    T* weights = scratch.take(0);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t b = row / p.queries / p.kv_heads, kv_head = row / p.queries % p.kv_heads;
      for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h)
        forward_query(a, b, h, row % p.queries, weights);
    }
  });
}

}  // namespace

Versions<NeighborAttentionForward> neighbor_attention_forward_versions() { return {forward<float>, forward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(neighbor_attention_forward_versions);

template <class T>
void NeighborAttentionForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(neighbor_attention_forward_versions)()(a);
}
template void NeighborAttentionForward::cpu(const Arguments<float>&);
template void NeighborAttentionForward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
