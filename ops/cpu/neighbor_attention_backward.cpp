// ops/cpu/neighbor_attention_backward.cpp: gradients in two passes, so that every sum has one writer: no atomics, no
// copies to add up, the same bits for any number of threads.
//
// With the weights P = 2^(s - L·log2 e), s = q·k scale·log2 e, and δ_i = dy_i·y_i:
//     ds = scale · P (dy·v - δ),   dq_i = Σ_keys ds k,   dk_j = Σ_queries ds q,   dv_j = Σ_queries P dy
// The pass by queries makes dq of a whole segment of queries (ops/neighbor_segments.h), and with the same P and ds also
// dk and dv for columns at home in the segment and for its guests. The pass by keys continues the sums of every key:
// with what segments made for it as their guest, and with the pairs that are left, whose weights it computes once more.
// That costs less than storing them: far neighbors, and windows that reach across the edge of a segment.
//
// Both passes have the form of the forward pass: tiles of lists, whose common entries are columns for small matrix
// products and whose rest is taken list by list. By queries, queries lie along the lanes of a tile; by keys, keys do,
// and the two sides change their parts. The gradient of a key/value head sums over the query heads that share it, in
// order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/neighbor_attention_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/neighbor_slopes-inl.h"
#include "ops/cpu/versions.h"
#include "ops/neighbor_attention.h"
#include "tensor/cpu/threads.h"

#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// The sums for dk and dv that a segment makes: padded rows for the keys at home in it, then for its guests.
template <class T>
struct SegmentSums {
  T *dk, *dv;  // null when not wanted
};

/// The guests' sums of all segments of one (batch row, key/value head) after another, [guests][width] for dk and
/// [guests][value_width] for dv.
template <class T>
struct GuestSums {
  T *dk, *dv;
  std::int64_t count, width, value_width;

  T* dk_row(const NeighborAttentionProblem& p, std::int64_t b, std::int64_t kv_head, std::int64_t guest) const {
    return dk + ((b * p.kv_heads + kv_head) * count + guest) * width;
  }
  T* dv_row(const NeighborAttentionProblem& p, std::int64_t b, std::int64_t kv_head, std::int64_t guest) const {
    return dv + ((b * p.kv_heads + kv_head) * count + guest) * value_width;
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// By queries.

/// sums(slot of row n) += Σ_lanes A(n, lane) B(lane) for the rows n of a chunk that have a slot. `buffer` holds a
/// chunk's rows.
template <class T>
void add_to_slots(Product<T> p, const Chunk& chunk, std::int64_t columns, T* sums, T* buffer) {
  const std::int32_t first = chunk.slots[0];
  bool in_place = true, any = false;
  for (std::int64_t n = 0; n < chunk.count; ++n) {
    in_place = in_place && chunk.slots[n] == first + n;
    any = any || chunk.slots[n] >= 0;
  }
  if (!any) return;
  p.c_row = columns;
  if (in_place && first >= 0) {
    p.c = sums + first * columns;
    sum_over_lanes<Start::keep>(p, chunk.mask, columns);
    return;
  }
  p.c = buffer;
  std::fill_n(buffer, chunk.count * columns, T(0));
  sum_over_lanes<Start::keep>(p, chunk.mask, columns);
  for (std::int64_t n = 0; n < chunk.count; ++n)
    if (chunk.slots[n] >= 0) add_scaled(T(1), buffer + n * columns, sums + chunk.slots[n] * columns, columns);
}

/// One tile of queries of head h: dq, and what it adds to the sums of its segment. For the plain slots q and dq are
/// those of plain_q.
template <class T>
void backward_queries(const NeighborAttentionBackward::Arguments<T>& a, const BackwardTile<T>& t,
                      const TiledLists& lists, const std::vector<std::int32_t>& slots, const HeadRows<const T>& q,
                      const HeadRows<T>& dq, const SegmentSums<T>& sums, std::int64_t b, std::int64_t h,
                      std::int64_t tile) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t query = tile * kTile, queries = std::min(kTile, p.queries - query);
  const std::int64_t kv_head = h / (p.heads / p.kv_heads);
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  const T log2e = static_cast<T>(std::numbers::log2e), scale = static_cast<T>(p.scale);
  const std::int64_t row = (b * p.heads + h) * p.queries + query;
  std::fill_n(t.sum_a, queries * width, T(0));
  PackedRows<T> q_rows{}, dy_rows{};
  if (lists.columns.count(tile) > 0) {
    transpose_tile(q.at(b, h, query), q.row, queries, p.width, scale * log2e, t.own_a);
    transpose_tile(a.dy.at(b, h, query), a.dy.row, queries, p.value_width, scale, t.own_b);
    q_rows = packed_rows(q.at(b, h, query), q.row, queries, p.width, t.own_rows_a);
    dy_rows = packed_rows(a.dy.at(b, h, query), a.dy.row, queries, p.value_width, t.own_rows_b);
    for (std::int64_t r = 0; r < kTile; ++r) {
      t.log_sums[r] = r < queries ? a.log_sums[row + r] * log2e : T(0);
      t.delta[r] = r < queries ? a.delta[row + r] * scale : T(0);
    }
  }
  for_chunks(lists, &slots, tile, queries, [&](const Chunk& chunk) {
    const PackedRows<T> k = chunk_rows(a.k, b, kv_head, chunk, p.width, t.other_a);
    const PackedRows<T> v = chunk_rows(a.v, b, kv_head, chunk, p.value_width, t.other_b);
    chunk_slopes<Queries::in_lanes>(p, t, chunk, k, v, b, h, query);
    if (dq)
      sum_over_rows<Start::keep>(Product<T>{t.slopes, 1, kTile, k.data, k.stride, t.sum_a, width}, chunk.mask, width);
    // The rows of keys and values are not needed any more: their memory serves for sums.
    if (sums.dk)
      add_to_slots(Product<T>{t.slopes, kTile, 1, q_rows.data, q_rows.stride, nullptr, 0}, chunk, width, sums.dk,
                   t.other_a);
    if (sums.dv)
      add_to_slots(Product<T>{t.scores, kTile, 1, dy_rows.data, dy_rows.stride, nullptr, 0}, chunk, value_width,
                   sums.dv, t.other_b);
  });
  if (!dq) return;
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

/// All tiles of a segment at one key/value head.
template <class T>
void backward_segment(const NeighborAttentionBackward::Arguments<T>& a, const GuestSums<T>& guests, std::int64_t b,
                      std::int64_t kv_head, std::int64_t segment) {
  const NeighborAttentionProblem& p = a.problem;
  const NeighborSegments& segments = a.plan->segments;
  const std::int64_t group = p.heads / p.kv_heads, width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  const std::int64_t first = segment * segments.rows, end = std::min(first + segments.rows, p.queries);
  const std::int64_t visitors = segments.guests.count(segment), rows = segments.rows + visitors;
  Scratch<T> scratch(BackwardTile<T>::size(p) + rows * ((a.dk ? width : 0) + (a.dv ? value_width : 0)));
  const BackwardTile<T> t(scratch, p);
  const SegmentSums<T> sums{a.dk ? scratch.take(rows * width) : nullptr,
                            a.dv ? scratch.take(rows * value_width) : nullptr};
  if (sums.dk) std::fill_n(sums.dk, rows * width, T(0));
  if (sums.dv) std::fill_n(sums.dv, rows * value_width, T(0));
  for (std::int64_t query = first; query < end; query += kTile)
    for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (std::int64_t i = query; i < std::min(query + kTile, end); ++i)
        a.delta[(b * p.heads + h) * p.queries + i] = dot(a.y.at(b, h, i), a.dy.at(b, h, i), p.value_width);
      backward_queries(a, t, a.plan->keys, segments.slots, a.q, a.dq, sums, b, h, query / kTile);
      if (a.plain_q)
        backward_queries(a, t, a.plan->plain_keys, segments.plain_slots, a.plain_q, a.dplain_q, sums, b, h,
                         query / kTile);
    }
  for (std::int64_t r = std::max<std::int64_t>(0, -first - segments.shift); r < segments.rows; ++r) {
    const std::int64_t key = first + segments.shift + r;
    if (key >= p.keys) break;
    if (a.dk) std::copy_n(sums.dk + r * width, p.width, a.dk.at(b, kv_head, key));
    if (a.dv) std::copy_n(sums.dv + r * value_width, p.value_width, a.dv.at(b, kv_head, key));
  }
  for (std::int64_t n = 0; n < visitors; ++n) {
    const std::int64_t guest = segments.guests.first(segment) + n;
    if (a.dk) std::copy_n(sums.dk + (segments.rows + n) * width, width, guests.dk_row(p, b, kv_head, guest));
    if (a.dv)
      std::copy_n(sums.dv + (segments.rows + n) * value_width, value_width, guests.dv_row(p, b, kv_head, guest));
  }
}

template <class T>
void pass_by_queries(const NeighborAttentionBackward::Arguments<T>& a, const GuestSums<T>& guests) {
  const NeighborAttentionProblem& p = a.problem;
  const std::int64_t segments = a.plan->segments.segments();
  cpu::parallel_for(p.batch * p.kv_heads * segments, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task)
      backward_segment(a, guests, task / segments / p.kv_heads, task / segments % p.kv_heads, task % segments);
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
  for_chunks(lists, nullptr, tile, keys, [&](const Chunk& chunk) {
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

/// The sums of a tile of keys so far: what the segment at home there has stored, and what it was given as a guest.
template <class T>
void begin_keys(const NeighborAttentionBackward::Arguments<T>& a, const BackwardTile<T>& t, const GuestSums<T>& guests,
                std::int64_t b, std::int64_t kv_head, std::int64_t key, std::int64_t keys) {
  const NeighborAttentionProblem& p = a.problem;
  const NeighborSegments& segments = a.plan->segments;
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  for (std::int64_t r = 0; r < keys; ++r) {
    T *dk = t.sum_a + r * width, *dv = t.sum_b + r * value_width;
    std::fill_n(dk, width, T(0));
    std::fill_n(dv, value_width, T(0));
    if (key + r >= segments.shift) {
      if (a.dk) std::copy_n(a.dk.at(b, kv_head, key + r), p.width, dk);
      if (a.dv) std::copy_n(a.dv.at(b, kv_head, key + r), p.value_width, dv);
    }
    for (std::int64_t n = 0; n < segments.visits.count(key + r); ++n) {
      const std::int64_t guest = segments.visits.entries(key + r)[n];
      if (a.dk) add_scaled(T(1), guests.dk_row(p, b, kv_head, guest), dk, width);
      if (a.dv) add_scaled(T(1), guests.dv_row(p, b, kv_head, guest), dv, value_width);
    }
  }
}

template <class T>
void pass_by_keys(const NeighborAttentionBackward::Arguments<T>& a, const GuestSums<T>& guests) {
  const NeighborAttentionProblem& p = a.problem;
  const TiledLists &queries = a.plan->queries, &plain = a.plan->plain_queries;
  const NeighborSegments& segments = a.plan->segments;
  const std::int64_t group = p.heads / p.kv_heads;
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  for_tiles(p, queries, plain, 4, [&](std::int64_t b, std::int64_t kv_head, std::int64_t tile) {
    const std::int64_t key = tile * kTile, keys = std::min(kTile, p.keys - key);
    const std::int64_t columns = queries.columns.count(tile) + plain.columns.count(tile);
    const auto among = [&](const RaggedLists& lists) { return lists.first(key + keys) - lists.first(key); };
    const bool complete = columns + among(queries.rest) + among(plain.rest) + among(segments.visits) == 0;
    if (complete && key >= segments.shift) return;
    Scratch<T> scratch(BackwardTile<T>::size(p));
    const BackwardTile<T> t(scratch, p);
    begin_keys(a, t, guests, b, kv_head, key, keys);
    if (columns > 0) {
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
  const auto count = static_cast<std::int64_t>(a.plan->segments.guests.entry.size());
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  Scratch<T> memory(p.batch * p.kv_heads * count * (width + value_width));
  const GuestSums<T> guests{.dk = memory.take(p.batch * p.kv_heads * count * width),
                            .dv = memory.take(p.batch * p.kv_heads * count * value_width),
                            .count = count,
                            .width = width,
                            .value_width = value_width};
  pass_by_queries(a, guests);
  if (a.dk || a.dv) pass_by_keys(a, guests);
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
