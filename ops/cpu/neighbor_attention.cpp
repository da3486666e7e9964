// ops/cpu/neighbor_attention.cpp: the forward pass. Keys and values are read where they lie, never gathered.
//
// A task is a tile of kTile queries at one key/value head, for all query heads that share it. The plan
// (ops/neighbor_plan.h) has split the tile's neighbors in two:
//
// The rest, which few queries share, comes first:
//     s_c = q·k_nb(c) · scale·log2 e,  m = max s,  P_c = 2^(s_c - m),  l = Σ P,  O = Σ P_c v_nb(c)
// with products of one vector and listed rows for all queries of the tile, then their weights, then weighted sums of
// listed rows: three loops whose steps do not wait for each other.
//
// The columns, which many queries share (a window, global keys), then go through small matrix products as in dense
// attention, up to kTile at a time, each masked by the bits of who reads it; the online softmax continues from (m, l,
// O):
//     S = K Qᵀ · scale·log2 e,  m' = max(m, max S),  α = 2^(m - m'),  P = 2^(S - m'),  l = α l + Σ P,  O = α O + Pᵀ V
// In the end y = O / l and L = (m + log2 l) / log2 e.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/neighbor_attention.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/neighbor_attention.h"

#include "ops/cpu/neighbor_tile-inl.h"
#include "ops/cpu/versions.h"

#include <cmath>
#include <limits>
#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kVectorSlack = 64;    // beyond the last segment
constexpr std::int64_t kQueriesAtATime = 8;  // whose rests are worked on together; their rows stay in the L1 cache

/// One query head of a task.
template <class T>
struct ForwardHead {
  T *queries, *plain_queries;  // Qᵀ, filled only where the tile has columns
  T* result;
  SoftmaxState<T> state;
};

/// The memory of a task.
template <class T>
struct ForwardTile {
  T *keys, *values, *scores, *keep, *weights;

  static std::int64_t size(const NeighborAttentionProblem& p, std::int64_t rest) {
    return kTile * (padded<T>(p.width) + padded<T>(p.value_width) + kTile) + kTile * kTile * (p.dropout.p > 0) + rest;
  }
  static std::int64_t head_size(const NeighborAttentionProblem& p) {
    return kTile * (2 * p.width + padded<T>(p.value_width) + 3);
  }
};

/// How a query's slots stand in `weights`: its plain rest, then the other rest.
struct RestCounts {
  std::int64_t plain, other;
  std::int64_t all() const { return plain + other; }
};
inline RestCounts rest_counts(const NeighborPlan& plan, std::int64_t query) {
  return {plan.plain_keys.rest.count(query), plan.keys.rest.count(query)};
}

/// Room for the weights of as many of these queries as are worked on together.
inline std::int64_t rest_room(const NeighborPlan& plan, std::int64_t query, std::int64_t queries) {
  std::int64_t most = 0;
  for (std::int64_t first = query; first < query + queries; first += kQueriesAtATime) {
    std::int64_t room = 0;
    for (std::int64_t i = first; i < std::min(first + kQueriesAtATime, query + queries); ++i)
      room += segment_room(rest_counts(plan, i).all());
    most = std::max(most, room);
  }
  return kVectorSlack + most;
}

/// Weights of one query's rest from its products: P = 2^(scale·log2 e·s - m). Sets m and l.
template <class T>
HWY_INLINE void rest_weights(T* HWY_RESTRICT weights, std::int64_t count, T factor, T& maximum, T& sum) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = lanes_per_vector<T>();
  const auto absent = hn::Set(d, -std::numeric_limits<T>::infinity());
  const auto scale = hn::Set(d, factor);
  auto most = absent;
  for (std::int64_t n = 0; n < count; n += lanes) {
    const auto inside = hn::FirstN(d, static_cast<std::size_t>(std::min(lanes, count - n)));
    const auto score = hn::IfThenElse(inside, hn::Mul(scale, hn::Load(d, weights + n)), absent);
    most = hn::Max(most, score);
    hn::Store(score, d, weights + n);
  }
  most = hn::MaxOfLanes(d, most);
  // All scores may be -∞: subtract 0 then, so that these slots weigh nothing.
  const auto shift = hn::IfThenZeroElse(hn::Eq(most, absent), most);
  auto total = hn::Zero(d);
  for (std::int64_t n = 0; n < count; n += lanes) {
    const auto weight = exp2(d, hn::Sub(hn::Load(d, weights + n), shift));
    total = hn::Add(total, weight);
    hn::Store(weight, d, weights + n);
  }
  maximum = hn::GetLane(most);
  sum = hn::GetLane(hn::SumOfLanes(d, total));
}

template <class T>
void drop_rest(const NeighborAttentionForward::Arguments<T>& a, std::int64_t b, std::int64_t h, std::int64_t query,
               T* weights) {
  for (const RaggedLists* rest : {&a.plan->plain_keys.rest, &a.plan->keys.rest}) {
    const std::int32_t *entries = rest->entries(query), *repeats = rest->repeats(query);
    for (std::int64_t n = 0; n < rest->count(query); ++n)
      *weights++ *= kept<T>(a.problem, b, h, query, entries[n], repeats ? repeats[n] : 0);
  }
}

/// (m, l, O) of some queries of a tile, `first` the number of the first in it, from their rests.
template <class T>
void start_queries(const NeighborAttentionForward::Arguments<T>& a, const ForwardHead<T>& head, std::int64_t b,
                   std::int64_t h, std::int64_t first, std::int64_t query, std::int64_t queries, T* weights) {
  const NeighborAttentionProblem& p = a.problem;
  const RaggedLists &rest = a.plan->keys.rest, &plain = a.plan->plain_keys.rest;
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), width = padded<T>(p.value_width);
  for (std::int64_t i = query; i < query + queries; ++i)
    for (const RaggedLists* lists : {&plain, &rest}) {
      prefetch_rows(p.width, lists->count(i), listed(a.k, b, kv_head, lists->entries(i)));
      prefetch_rows(p.value_width, lists->count(i), listed(a.v, b, kv_head, lists->entries(i)));
    }
  T* at = weights;
  for (std::int64_t i = query; i < query + queries; ++i) {  // `dots` may write a little beyond: plain slots first
    const RestCounts counts = rest_counts(*a.plan, i);
    if (counts.plain > 0)
      dots(a.plain_q.at(b, h, i), p.width, counts.plain, listed(a.k, b, kv_head, plain.entries(i)), at);
    dots(a.q.at(b, h, i), p.width, counts.other, listed(a.k, b, kv_head, rest.entries(i)), at + counts.plain);
    at += segment_room(counts.all());
  }
  at = weights;
  const T factor = static_cast<T>(p.scale * std::numbers::log2e);
  for (std::int64_t r = 0; r < queries; ++r) {
    const RestCounts counts = rest_counts(*a.plan, query + r);
    rest_weights(at, counts.all(), factor, head.state.maximum[first + r], head.state.sum[first + r]);
    if (p.dropout.p > 0) drop_rest(a, b, h, query + r, at);
    at += segment_room(counts.all());
  }
  at = weights;
  std::fill_n(head.result + first * width, queries * width, T(0));
  for (std::int64_t r = 0; r < queries; ++r) {
    const RestCounts counts = rest_counts(*a.plan, query + r);
    T* result = head.result + (first + r) * width;
    add_weighted(at, p.value_width, counts.plain, listed(a.v, b, kv_head, plain.entries(query + r)), result);
    add_weighted(at + counts.plain, p.value_width, counts.other, listed(a.v, b, kv_head, rest.entries(query + r)),
                 result);
    at += segment_room(counts.all());
  }
}

/// (m, l, O) of all queries of a tile.
template <class T>
void start_head(const NeighborAttentionForward::Arguments<T>& a, const ForwardHead<T>& head, std::int64_t b,
                std::int64_t h, std::int64_t query, std::int64_t queries, T* weights) {
  for (std::int64_t first = 0; first < queries; first += kQueriesAtATime)
    start_queries(a, head, b, h, first, query + first, std::min(kQueriesAtATime, queries - first), weights);
}

/// One step of the online softmax for a head: `queries` is Qᵀ or that of the plain queries.
template <class T>
void forward_chunk(const NeighborAttentionForward::Arguments<T>& a, const ForwardTile<T>& t, const ForwardHead<T>& head,
                   const T* queries, const Chunk& chunk, const PackedRows<T>& k, const PackedRows<T>& v, std::int64_t b,
                   std::int64_t h, std::int64_t query) {
  const NeighborAttentionProblem& p = a.problem;
  const bool dropout = p.dropout.p > 0;
  const std::int64_t width = padded<T>(p.value_width);
  product<Start::zero>(Product<T>{k.data, k.stride, 1, queries, kTile, t.scores, kTile}, 0, chunk.count,
                       chunk.mask.pairs<T>(p.width));
  if (dropout) fill_keep_chunk<Queries::in_lanes>(p, b, h, query, chunk, t.keep);
  softmax_tile<T>(t.scores, dropout ? t.keep : nullptr, chunk.mask, head.state);
  sum_over_rows<Start::scaled>(Product<T>{t.scores, 1, kTile, v.data, v.stride, head.result, width, head.state.rescale},
                               chunk.mask, width);
}

/// y = O / l and L for one head of the tile.
template <class T>
void finish_head(const NeighborAttentionForward::Arguments<T>& a, const ForwardHead<T>& head, std::int64_t b,
                 std::int64_t h, std::int64_t query, std::int64_t queries) {
  const NeighborAttentionProblem& p = a.problem;
  T* log_sums = a.log_sums + (b * p.heads + h) * p.queries + query;
  for (std::int64_t r = 0; r < queries; ++r) {
    const bool live = head.state.sum[r] != 0;
    const T factor = live ? 1 / head.state.sum[r] : T(0);
    const T* result = head.result + r * padded<T>(p.value_width);
    T* y = a.y.at(b, h, query + r);
    for (std::int64_t c = 0; c < p.value_width; ++c) y[c] = live ? result[c] * factor : T(0);
    log_sums[r] = live ? head.state.maximum[r] * static_cast<T>(std::numbers::ln2) + std::log(head.state.sum[r])
                       : std::numeric_limits<T>::infinity();
  }
}

template <class T>
void forward_tile(const NeighborAttentionForward::Arguments<T>& a, std::int64_t b, std::int64_t kv_head,
                  std::int64_t tile) {
  const NeighborAttentionProblem& p = a.problem;
  const TiledLists &lists = a.plan->keys, &plain = a.plan->plain_keys;
  const std::int64_t query = tile * kTile, queries = std::min(kTile, p.queries - query);
  const std::int64_t group = p.heads / p.kv_heads, first_head = kv_head * group;
  const std::int64_t rest = rest_room(*a.plan, query, queries);
  Scratch<T> scratch(ForwardTile<T>::size(p, rest) + group * ForwardTile<T>::head_size(p));
  ForwardTile<T> t{.keys = scratch.take(kTile * padded<T>(p.width)),
                   .values = scratch.take(kTile * padded<T>(p.value_width)),
                   .scores = scratch.take(kTile * kTile),
                   .keep = scratch.take(p.dropout.p > 0 ? kTile * kTile : 0),
                   .weights = scratch.take(rest)};
  T* head_memory = scratch.take(group * ForwardTile<T>::head_size(p));
  const auto head_of = [&](std::int64_t g) {
    T* at = head_memory + g * ForwardTile<T>::head_size(p);
    ForwardHead<T> head{
        .queries = at, .plain_queries = at + kTile * p.width, .result = at + 2 * kTile * p.width, .state = {}};
    T* state = head.result + kTile * padded<T>(p.value_width);
    head.state = {state, state + kTile, state + 2 * kTile};
    return head;
  };
  const T scale = static_cast<T>(p.scale * std::numbers::log2e);
  for (std::int64_t g = 0; g < group; ++g) {
    const ForwardHead<T> head = head_of(g);
    const std::int64_t h = first_head + g;
    if (lists.columns.count(tile) > 0)
      transpose_tile(a.q.at(b, h, query), a.q.row, queries, p.width, scale, head.queries);
    if (plain.columns.count(tile) > 0)
      transpose_tile(a.plain_q.at(b, h, query), a.plain_q.row, queries, p.width, scale, head.plain_queries);
    start_head(a, head, b, h, query, queries, t.weights);
    std::fill(head.state.maximum + queries, head.state.maximum + kTile, T(0));
    std::fill(head.state.sum + queries, head.state.sum + kTile, T(0));
  }
  const auto all_heads = [&](const Chunk& chunk, bool is_plain) {
    const PackedRows<T> k = chunk_rows(a.k, b, kv_head, chunk, p.width, t.keys);
    const PackedRows<T> v = chunk_rows(a.v, b, kv_head, chunk, p.value_width, t.values);
    for (std::int64_t g = 0; g < group; ++g) {
      const ForwardHead<T> head = head_of(g);
      forward_chunk(a, t, head, is_plain ? head.plain_queries : head.queries, chunk, k, v, b, first_head + g, query);
    }
  };
  for_chunks(lists, nullptr, tile, queries, [&](const Chunk& chunk) { all_heads(chunk, false); });
  for_chunks(plain, nullptr, tile, queries, [&](const Chunk& chunk) { all_heads(chunk, true); });
  for (std::int64_t g = 0; g < group; ++g) finish_head(a, head_of(g), b, first_head + g, query, queries);
}

template <class T>
void forward(const NeighborAttentionForward::Arguments<T>& arguments) {
  NeighborAttentionForward::Arguments<T> a = arguments;
  const NeighborAttentionProblem& p = a.problem;
  PackedHeads<T> keys, values;
  if (p.queries >= kPackQueries) {
    a.k = keys.pack(a.k, p.batch, p.kv_heads, p.keys, p.width);
    a.v = values.pack(a.v, p.batch, p.kv_heads, p.keys, p.value_width);
  }
  for_tiles(p, a.plan->keys, a.plan->plain_keys, 2,
            [&](std::int64_t b, std::int64_t kv_head, std::int64_t tile) { forward_tile(a, b, kv_head, tile); });
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
