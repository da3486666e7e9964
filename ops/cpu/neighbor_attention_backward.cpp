// ops/cpu/neighbor_attention_backward.cpp: gradients in two passes over the same pairs, one from either side, so that
// every gradient row has one writer: no atomics, no copies to add up, the same bits for any number of threads.
//
// With the weights P = 2^(s - L·log2 e), s = q·k scale·log2 e, and δ_i = dy_i·y_i:
//     by queries   ds_c = scale · P_c (dy·v_c - δ),   dq = Σ_c ds_c k_c                       (lists of keys)
//     by keys      dv = Σ_i P_i dy_i,                 dk = Σ_i scale · P_i (v·dy_i - δ_i) q_i  (lists of queries)
// Both passes have the form of the forward pass: tiles of lists, whose common entries are columns for small matrix
// products and whose rest is taken list by list. By queries, queries lie along the lanes of a tile; by keys, keys do,
// and the two sides change their parts. The weights are computed in each pass, which costs less than storing them. The
// gradient of a key/value head sums over the query heads that share it, in order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/neighbor_attention_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/neighbor_tile-inl.h"
#include "ops/cpu/versions.h"
#include "ops/neighbor_attention.h"
#include "tensor/cpu/threads.h"

#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kPart = 64;  // entries of the rests worked on at a time; their rows stay in the L1 cache
constexpr std::int64_t kPartRoom = kPart + 64;

/// The memory of a task. `own` are the queries by queries and the keys by keys, `other` those of the other side:
///            own_a   own_b   other_a   other_b   sum_a   sum_b
/// by queries   q      dy        k         v       dq
/// by keys      k       v        q        dy       dk      dv
template <class T>
struct BackwardTile {
  T *own_a, *own_b;                                            // transposed and scaled
  T *other_a, *other_b;                                        // rows of a chunk
  T *sum_a, *sum_b;                                            // padded rows
  T *scores, *slopes, *keep;                                   // of a chunk
  T *log_sums, *delta;                                         // of the queries of the tile, or of a chunk
  T *rest_weights, *rest_slopes, *rest_log_sums, *rest_delta;  // of a part of the rests

  BackwardTile(Scratch<T>& scratch, const NeighborAttentionProblem& p)
      : own_a(scratch.take(kTile * p.width)),
        own_b(scratch.take(kTile * p.value_width)),
        other_a(scratch.take(kTile * padded<T>(p.width))),
        other_b(scratch.take(kTile * padded<T>(p.value_width))),
        sum_a(scratch.take(kTile * padded<T>(p.width))),
        sum_b(scratch.take(kTile * padded<T>(p.value_width))),
        scores(scratch.take(kTile * kTile)),
        slopes(scratch.take(kTile * kTile)),
        keep(scratch.take(p.dropout.p > 0 ? kTile * kTile : 0)),
        log_sums(scratch.take(kTile)),
        delta(scratch.take(kTile)),
        rest_weights(scratch.take(kPartRoom)),
        rest_slopes(scratch.take(kPartRoom)),
        rest_log_sums(scratch.take(kPartRoom)),
        rest_delta(scratch.take(kPartRoom)) {}

  static std::int64_t size(const NeighborAttentionProblem& p) {
    return kTile * (p.width + p.value_width + 2 * padded<T>(p.width) + 2 * padded<T>(p.value_width) + 2 * kTile + 2) +
           kTile * kTile * (p.dropout.p > 0) + 4 * kPartRoom;
  }
};

/// P = 2^(S - L) and dS = P ∘ (dP - δ) for the pairs of own lanes and the rows of a chunk, in `scores` and `slopes`.
template <Queries kQueries, class T>
void chunk_slopes(const NeighborAttentionProblem& p, const BackwardTile<T>& t, const Chunk& chunk,
                  const PackedRows<T>& other_a, const PackedRows<T>& other_b, std::int64_t b, std::int64_t h,
                  std::int64_t first) {
  product<Start::zero>(Product<T>{other_a.data, other_a.stride, 1, t.own_a, kTile, t.scores, kTile}, 0, chunk.count,
                       chunk.mask.pairs<T>(p.width));
  product<Start::zero>(Product<T>{other_b.data, other_b.stride, 1, t.own_b, kTile, t.slopes, kTile}, 0, chunk.count,
                       chunk.mask.pairs<T>(p.value_width));
  const bool dropout = p.dropout.p > 0;
  if (dropout) fill_keep_chunk<kQueries>(p, b, h, first, chunk, t.keep);
  slopes_tile<kQueries, T>(t.scores, t.slopes, dropout ? t.keep : nullptr, chunk.mask, t.log_sums, t.delta);
}

/// A part of the rests of lists i at vectors x_i and u_i, with the rows of the other side: x = q, u = dy and rows of k
/// and v by queries, x = k, u = v and rows of q and dy by keys. `statistics(segment)` writes L·log2 e and scale·δ of
/// the segment's entries; `keep(list, entry, repeat)` is the factor of dropout. Leaves P ∘ keep in rest_weights and
/// scale·dS in rest_slopes.
template <class T, class Statistics, class Keep>
HWY_INLINE void part_slopes(const NeighborAttentionProblem& p, const BackwardTile<T>& t, const RaggedLists& rest,
                            std::span<const Segment> part, const HeadRows<const T>& x, const HeadRows<const T>& u,
                            const HeadRows<const T>& rows_a, const HeadRows<const T>& rows_b, std::int64_t b,
                            std::int64_t own_a_head, std::int64_t own_b_head, std::int64_t a_head, std::int64_t b_head,
                            Statistics statistics, Keep keep) {
  const hn::ScalableTag<T> d;
  for (const Segment& s : part) {
    prefetch_rows(p.width, s.count, listed(rows_a, b, a_head, rest.entries(s.list) + s.first));
    prefetch_rows(p.value_width, s.count, listed(rows_b, b, b_head, rest.entries(s.list) + s.first));
  }
  for (const Segment& s : part)
    dots(x.at(b, own_a_head, s.list), p.width, s.count, listed(rows_a, b, a_head, rest.entries(s.list) + s.first),
         t.rest_weights + s.offset);
  for (const Segment& s : part)
    dots(u.at(b, own_b_head, s.list), p.value_width, s.count, listed(rows_b, b, b_head, rest.entries(s.list) + s.first),
         t.rest_slopes + s.offset);
  for (const Segment& s : part) statistics(s);
  const auto scale = hn::Set(d, static_cast<T>(p.scale));
  const auto factor = hn::Set(d, static_cast<T>(p.scale * std::numbers::log2e));
  for (const Segment& s : part) {
    const std::int32_t* entries = rest.entries(s.list) + s.first;
    const std::int32_t* repeats = rest.repeats(s.list) ? rest.repeats(s.list) + s.first : nullptr;
    T *weights = t.rest_weights + s.offset, *slopes = t.rest_slopes + s.offset;
    const T *log_sums = t.rest_log_sums + s.offset, *delta = t.rest_delta + s.offset;
    for (std::int64_t n = 0; n < s.count; n += lanes_per_vector<T>()) {
      const auto weight = exp2(d, hn::MulSub(factor, hn::Load(d, weights + n), hn::Load(d, log_sums + n)));
      hn::Store(weight, d, weights + n);
    }
    if (p.dropout.p > 0)
      for (std::int64_t n = 0; n < s.count; ++n) {
        const T kept_factor = keep(s.list, entries[n], repeats ? repeats[n] : 0);
        slopes[n] = weights[n] * (static_cast<T>(p.scale) * slopes[n] * kept_factor - delta[n]);
        weights[n] *= kept_factor;
      }
    else
      for (std::int64_t n = 0; n < s.count; n += lanes_per_vector<T>())
        hn::Store(hn::Mul(hn::Load(d, weights + n), hn::MulSub(scale, hn::Load(d, slopes + n), hn::Load(d, delta + n))),
                  d, slopes + n);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// By queries.

/// dq of one tile of queries of head h (or dplain_q, with the plain slots).
template <class T>
void backward_queries(const NeighborAttentionBackward::Arguments<T>& a, const BackwardTile<T>& t,
                      const TiledLists& lists, const HeadRows<const T>& q, const HeadRows<T>& dq, std::int64_t b,
                      std::int64_t h, std::int64_t tile) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t query = tile * kTile, queries = std::min(kTile, p.queries - query);
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), width = padded<T>(p.width);
  const T log2e = static_cast<T>(std::numbers::log2e), scale = static_cast<T>(p.scale);
  const std::int64_t row = (b * p.heads + h) * p.queries + query;
  std::fill_n(t.sum_a, queries * width, T(0));
  if (lists.columns.count(tile) > 0) {
    transpose_tile(q.at(b, h, query), q.row, queries, p.width, scale * log2e, t.own_a);
    transpose_tile(a.dy.at(b, h, query), a.dy.row, queries, p.value_width, scale, t.own_b);
    for (std::int64_t r = 0; r < kTile; ++r) {
      t.log_sums[r] = r < queries ? a.log_sums[row + r] * log2e : T(0);
      t.delta[r] = r < queries ? a.delta[row + r] * scale : T(0);
    }
  }
  for_chunks(lists, tile, queries, [&](const Chunk& chunk) {
    const PackedRows<T> k = chunk_rows(a.k, b, kv_head, chunk, p.width, t.other_a);
    const PackedRows<T> v = chunk_rows(a.v, b, kv_head, chunk, p.value_width, t.other_b);
    chunk_slopes<Queries::in_lanes>(p, t, chunk, k, v, b, h, query);
    sum_over_rows<Start::keep>(Product<T>{t.slopes, 1, kTile, k.data, k.stride, t.sum_a, width}, chunk.mask, width);
  });
  for_parts(lists.rest, query, query + queries, kPart, [&](std::span<const Segment> part) {
    part_slopes(
        p, t, lists.rest, part, q, a.dy, a.k, a.v, b, h, h, kv_head, kv_head,
        [&](const Segment& s) {
          std::fill_n(t.rest_log_sums + s.offset, s.count, a.log_sums[row - query + s.list] * log2e);
          std::fill_n(t.rest_delta + s.offset, s.count, a.delta[row - query + s.list] * scale);
        },
        [&](std::int64_t i, std::int64_t j, std::int64_t repeat) { return kept<T>(p, b, h, i, j, repeat); });
    for (const Segment& s : part)
      add_weighted(t.rest_slopes + s.offset, p.width, s.count,
                   listed(a.k, b, kv_head, lists.rest.entries(s.list) + s.first), t.sum_a + (s.list - query) * width);
  });
  for (std::int64_t r = 0; r < queries; ++r) std::copy_n(t.sum_a + r * width, p.width, dq.at(b, h, query + r));
}

template <class T>
void pass_by_queries(const NeighborAttentionBackward::Arguments<T>& a) {
  const NeighborAttentionProblem& p = a.problem;
  const TiledLists &keys = a.plan->keys, &plain = a.plan->plain_keys;
  const std::int64_t group = p.heads / p.kv_heads;
  for_tiles(p, keys, plain, 3, [&](std::int64_t b, std::int64_t kv_head, std::int64_t tile) {
    const std::int64_t begin = tile * kTile, end = std::min(begin + kTile, p.queries);
    Scratch<T> scratch(BackwardTile<T>::size(p));
    const BackwardTile<T> t(scratch, p);
    for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (std::int64_t i = begin; i < end; ++i)
        a.delta[(b * p.heads + h) * p.queries + i] = dot(a.y.at(b, h, i), a.dy.at(b, h, i), p.value_width);
      if (a.dq) backward_queries(a, t, keys, a.q, a.dq, b, h, tile);
      if (a.dplain_q) backward_queries(a, t, plain, a.plain_q, a.dplain_q, b, h, tile);
    }
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// By keys.

/// What the queries of head h (or its plain queries) add to dk and dv of a tile of keys.
template <class T>
void backward_keys(const NeighborAttentionBackward::Arguments<T>& a, const BackwardTile<T>& t, const TiledLists& lists,
                   const HeadRows<const T>& q, std::int64_t b, std::int64_t h, std::int64_t tile) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t key = tile * kTile, keys = std::min(kTile, p.keys - key);
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  const T log2e = static_cast<T>(std::numbers::log2e), scale = static_cast<T>(p.scale);
  const std::int64_t row = (b * p.heads + h) * p.queries, kv_head = h / (p.heads / p.kv_heads);
  for_chunks(lists, tile, keys, [&](const Chunk& chunk) {
    const PackedRows<T> queries = chunk_rows(q, b, h, chunk, p.width, t.other_a);
    const PackedRows<T> upstream = chunk_rows(a.dy, b, h, chunk, p.value_width, t.other_b);
    for (std::int64_t n = 0; n < chunk.count; ++n) {
      t.log_sums[n] = a.log_sums[row + chunk.entries[n]] * log2e;
      t.delta[n] = a.delta[row + chunk.entries[n]] * scale;
    }
    chunk_slopes<Queries::in_rows>(p, t, chunk, queries, upstream, b, h, key);
    if (a.dk)
      sum_over_rows<Start::keep>(Product<T>{t.slopes, 1, kTile, queries.data, queries.stride, t.sum_a, width},
                                 chunk.mask, width);
    if (a.dv)
      sum_over_rows<Start::keep>(Product<T>{t.scores, 1, kTile, upstream.data, upstream.stride, t.sum_b, value_width},
                                 chunk.mask, value_width);
  });
  for_parts(lists.rest, key, key + keys, kPart, [&](std::span<const Segment> part) {
    part_slopes(
        p, t, lists.rest, part, a.k, a.v, q, a.dy, b, kv_head, kv_head, h, h,
        [&](const Segment& s) {
          const std::int32_t* entries = lists.rest.entries(s.list) + s.first;
          for (std::int64_t n = 0; n < s.count; ++n) {
            t.rest_log_sums[s.offset + n] = a.log_sums[row + entries[n]] * log2e;
            t.rest_delta[s.offset + n] = a.delta[row + entries[n]] * scale;
          }
        },
        [&](std::int64_t j, std::int64_t i, std::int64_t repeat) { return kept<T>(p, b, h, i, j, repeat); });
    for (const Segment& s : part) {
      const std::int32_t* entries = lists.rest.entries(s.list) + s.first;
      if (a.dk)
        add_weighted(t.rest_slopes + s.offset, p.width, s.count, listed(q, b, h, entries),
                     t.sum_a + (s.list - key) * width);
      if (a.dv)
        add_weighted(t.rest_weights + s.offset, p.value_width, s.count, listed(a.dy, b, h, entries),
                     t.sum_b + (s.list - key) * value_width);
    }
  });
}

template <class T>
void pass_by_keys(const NeighborAttentionBackward::Arguments<T>& a) {
  const NeighborAttentionProblem& p = a.problem;
  const TiledLists &queries = a.plan->queries, &plain = a.plan->plain_queries;
  const std::int64_t group = p.heads / p.kv_heads;
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  for_tiles(p, queries, plain, 4, [&](std::int64_t b, std::int64_t kv_head, std::int64_t tile) {
    const std::int64_t key = tile * kTile, keys = std::min(kTile, p.keys - key);
    Scratch<T> scratch(BackwardTile<T>::size(p));
    const BackwardTile<T> t(scratch, p);
    std::fill_n(t.sum_a, keys * width, T(0));
    std::fill_n(t.sum_b, keys * value_width, T(0));
    if (queries.columns.count(tile) + plain.columns.count(tile) > 0) {
      transpose_tile(a.k.at(b, kv_head, key), a.k.row, keys, p.width,
                     static_cast<T>(p.scale) * static_cast<T>(std::numbers::log2e), t.own_a);
      transpose_tile(a.v.at(b, kv_head, key), a.v.row, keys, p.value_width, static_cast<T>(p.scale), t.own_b);
    }
    for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      backward_keys(a, t, queries, a.q, b, h, tile);
      if (a.plain_q) backward_keys(a, t, plain, a.plain_q, b, h, tile);
    }
    for (std::int64_t r = 0; r < keys; ++r) {
      if (a.dk) std::copy_n(t.sum_a + r * width, p.width, a.dk.at(b, kv_head, key + r));
      if (a.dv) std::copy_n(t.sum_b + r * value_width, p.value_width, a.dv.at(b, kv_head, key + r));
    }
  });
}

template <class T>
void backward(const NeighborAttentionBackward::Arguments<T>& arguments) {
  NeighborAttentionBackward::Arguments<T> a = arguments;
  const NeighborAttentionProblem& p = a.problem;
  PackedHeads<T> keys, values, queries, plain_queries, upstream;
  if (p.queries >= kPackQueries) {
    a.k = keys.pack(a.k, p.batch, p.kv_heads, p.keys, p.width);
    a.v = values.pack(a.v, p.batch, p.kv_heads, p.keys, p.value_width);
    a.q = queries.pack(a.q, p.batch, p.heads, p.queries, p.width);
    if (a.plain_q) a.plain_q = plain_queries.pack(a.plain_q, p.batch, p.heads, p.queries, p.width);
    a.dy = upstream.pack(a.dy, p.batch, p.heads, p.queries, p.value_width);
  }
  pass_by_queries(a);
  if (a.dk || a.dv) pass_by_keys(a);
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
