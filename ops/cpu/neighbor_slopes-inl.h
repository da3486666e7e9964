// ops/cpu/neighbor_slopes-inl.h: what both passes of the backward kernel of neighbor attention share: the memory of a
// task, and the weights and slopes of a chunk of columns and of a part of the rests.

// clang-format off
#if defined(SUBQUAD_NEIGHBOR_SLOPES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_NEIGHBOR_SLOPES_INL_H
#undef SUBQUAD_NEIGHBOR_SLOPES_INL_H
#else
#define SUBQUAD_NEIGHBOR_SLOPES_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/neighbor_tile-inl.h"
#include "ops/neighbor_attention.h"

#include <numbers>
#include <span>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

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
  T *own_rows_a, *own_rows_b;                                  // packed copies, where the rows are not packed
  T *sum_a, *sum_b;                                            // padded rows
  T *scores, *slopes, *keep;                                   // of a chunk
  T *log_sums, *delta;                                         // of the queries of the tile, or of a chunk
  T *rest_weights, *rest_slopes, *rest_log_sums, *rest_delta;  // of a part of the rests

  BackwardTile(Scratch<T>& scratch, const NeighborAttentionProblem& p)
      : own_a(scratch.take(kTile * p.width)),
        own_b(scratch.take(kTile * p.value_width)),
        other_a(scratch.take(kTile * padded<T>(p.width))),
        other_b(scratch.take(kTile * padded<T>(p.value_width))),
        own_rows_a(scratch.take(kTile * padded<T>(p.width))),
        own_rows_b(scratch.take(kTile * padded<T>(p.value_width))),
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
    return kTile * (p.width + p.value_width + 3 * padded<T>(p.width) + 3 * padded<T>(p.value_width) + 2 * kTile + 2) +
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

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_NEIGHBOR_SLOPES_INL_H
