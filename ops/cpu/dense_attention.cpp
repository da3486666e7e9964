// ops/cpu/dense_attention.cpp: the forward pass, tile by tile with an online softmax.
//
// For kTile queries (Q) and the live keys in tiles of kTile (K, V), with running maxima m, sums l and results O:
//     S  = K Qᵀ · scale·log2 e          scores, S[key][query]; Qᵀ is transposed once and stays in the cache
//     m' = max(m, max_keys S)           per query, a vertical maximum
//     P  = 2^(S - m'),  α = 2^(m - m')
//     l  = α l + Σ_keys P
//     O  = diag(α) O + Pᵀ V             Pᵀ is read in place as the left factor
// In the end y = O / l and L = (m + log2 l) / log2 e. Parts of a tile that causal order or the window leave out are
// skipped by blocks. Tasks are (batch row, head, tile of queries), latest queries first: they have the most keys.
//
// With a handful of queries (decoding) the matrix form would leave most lanes empty. There the keys are cut into splits
// of kSplitKeys; every split reads its keys and values once, in place, and leaves (m, l, O) for each query, and the
// splits are joined in order. The cut depends on nothing but the problem.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/dense_attention.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/dense_attention.h"

#include "ops/cpu/dense_tile-inl.h"
#include "ops/cpu/exp-inl.h"
#include "ops/cpu/rows-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <cmath>
#include <limits>
#include <numbers>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kSplitKeys = 256;
constexpr std::int64_t kPackQueries = 4 * kTile;  // from here on keys and values are packed once instead of per tile
constexpr std::int64_t kFewQueries = 8;           // up to this many queries per key/value head are computed row by row

/// The memory of one tile of queries.
template <class T>
struct ForwardTile {
  T *queries, *scores, *keys, *values, *result, *keep;
  SoftmaxState<T> state;

  ForwardTile(Scratch<T>& scratch, const DenseAttentionProblem& p)
      : queries(scratch.take(p.width * kTile)),
        scores(scratch.take(kTile * kTile)),
        keys(scratch.take(kTile * padded<T>(p.width))),
        values(scratch.take(kTile * padded<T>(p.value_width))),
        result(scratch.take(kTile * padded<T>(p.value_width))),
        keep(scratch.take(p.dropout.p > 0 ? kTile * kTile : 0)),
        state{scratch.take(kTile), scratch.take(kTile), scratch.take(kTile)} {}

  static std::int64_t size(const DenseAttentionProblem& p) {
    return kTile *
           (p.width + padded<T>(p.width) + kTile + 2 * padded<T>(p.value_width) + (p.dropout.p > 0 ? kTile : 0) + 3);
  }
};

/// S = K Qᵀ, the softmax step, O = diag(α) O + Pᵀ V.
template <class T>
void forward_keys(const DenseAttentionForward::Arguments<T>& a, const ForwardTile<T>& t, std::int64_t b, std::int64_t h,
                  std::int64_t query, std::int64_t queries, std::int64_t key) {
  const DenseAttentionProblem& p = a.problem;
  const PairMask mask = mask_of(p, b, query, queries, key);
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), width = padded<T>(p.value_width);
  const PackedRows<T> k = packed_rows(a.k.at(b, kv_head, key), a.k.row, mask.rows, p.width, t.keys);
  product<Start::zero>(Product<T>{k.data, k.stride, 1, t.queries, kTile, t.scores, kTile}, 0, mask.rows,
                       mask.pairs<T>(p.width));
  const bool dropout = p.dropout.p > 0;
  if (dropout) fill_keep_tile(p, b, h, query, queries, key, mask.rows, t.keep);
  softmax_tile<T>(t.scores, dropout ? t.keep : nullptr, mask, t.state);
  const PackedRows<T> v = packed_rows(a.v.at(b, kv_head, key), a.v.row, mask.rows, p.value_width, t.values);
  sum_over_rows<Start::scaled>(Product<T>{t.scores, 1, kTile, v.data, v.stride, t.result, width, t.state.rescale}, mask,
                               width);
}

template <class T>
void forward_tile(const DenseAttentionForward::Arguments<T>& a, std::int64_t b, std::int64_t h, std::int64_t query) {
  const DenseAttentionProblem& p = a.problem;
  const std::int64_t queries = std::min(kTile, p.queries - query), width = padded<T>(p.value_width);
  Scratch<T> scratch(ForwardTile<T>::size(p));
  const ForwardTile<T> t(scratch, p);
  transpose_tile(a.q.at(b, h, query), a.q.row, queries, p.width, static_cast<T>(p.scale * std::numbers::log2e),
                 t.queries);
  std::fill_n(t.state.maximum, kTile, -std::numeric_limits<T>::infinity());
  std::fill_n(t.state.sum, kTile, T(0));
  std::fill_n(t.result, kTile * width, T(0));
  const KeyRange range = keys_seen(p, b, query, query + queries);
  for (std::int64_t key = range.begin / kTile * kTile; key < range.end; key += kTile)
    forward_keys(a, t, b, h, query, queries, key);

  T* log_sums = a.log_sums + (b * p.heads + h) * p.queries + query;
  for (std::int64_t r = 0; r < queries; ++r) {
    const bool live = t.state.sum[r] != 0;
    const T factor = live ? 1 / t.state.sum[r] : T(0);
    T* y = a.y.at(b, h, query + r);
    for (std::int64_t c = 0; c < p.value_width; ++c) y[c] = live ? t.result[r * width + c] * factor : T(0);
    log_sums[r] = live ? t.state.maximum[r] * static_cast<T>(std::numbers::ln2) + std::log(t.state.sum[r])
                       : std::numeric_limits<T>::infinity();
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Few queries: rows of keys read in place.

/// One split of the keys for one query: O = Σ 2^(s - m) v, and m and l behind it.
template <class T>
void split_query(const DenseAttentionForward::Arguments<T>& a, std::int64_t b, std::int64_t h, std::int64_t query,
                 std::int64_t split, T* weights, T* out) {
  const DenseAttentionProblem& p = a.problem;
  const std::int64_t kv_head = h / (p.heads / p.kv_heads), width = p.value_width;
  KeyRange range = keys_seen(p, b, query, query + 1);
  range.begin = std::max(range.begin, split * kSplitKeys);
  range.end = std::min(range.end, (split + 1) * kSplitKeys);
  std::fill_n(out, width, T(0));
  out[width] = -std::numeric_limits<T>::infinity();
  out[width + 1] = 0;
  const std::int64_t count = range.end - range.begin;
  if (count <= 0) return;
  const hn::ScalableTag<T> d;
  const T* k = a.k.at(b, kv_head, range.begin);
  const T* v = a.v.at(b, kv_head, range.begin);
  dots(
      a.q.at(b, h, query), p.width, count, [&](std::int64_t n) { return k + n * a.k.row; }, weights);
  const auto factor = hn::Set(d, static_cast<T>(p.scale * std::numbers::log2e));
  map(weights, weights, count, [&](auto s) HWY_ATTR { return hn::Mul(s, factor); });
  const T most = maximum(weights, count);
  if (most == -std::numeric_limits<T>::infinity()) return;
  const auto shift = hn::Set(d, most);
  map(weights, weights, count, [&](auto s) HWY_ATTR { return exp2(d, hn::Sub(s, shift)); });
  out[width] = most;
  out[width + 1] = sum(weights, count);
  add_weighted(
      weights, width, count, [&](std::int64_t n) { return v + n * a.v.row; }, out);
}

/// y = Σ_splits 2^(m_s - m) O_s / Σ_splits 2^(m_s - m) l_s for one query, whose splits lie `stride` apart.
template <class T>
void join_splits(const DenseAttentionForward::Arguments<T>& a, std::int64_t b, std::int64_t h, std::int64_t query,
                 std::int64_t splits, const T* part, std::int64_t stride) {
  const std::int64_t width = a.problem.value_width;
  T most = -std::numeric_limits<T>::infinity(), total = 0;
  for (std::int64_t s = 0; s < splits; ++s) most = std::max(most, part[s * stride + width]);
  T* y = a.y.at(b, h, query);
  std::fill_n(y, width, T(0));
  for (std::int64_t s = 0; s < splits; ++s) {
    const T l = part[s * stride + width + 1];
    if (l == 0) continue;
    const T factor = std::exp2(part[s * stride + width] - most);
    total += factor * l;
    add_scaled(factor, part + s * stride, y, width);
  }
  for (std::int64_t c = 0; c < width && total != 0; ++c) y[c] /= total;
  a.log_sums[(b * a.problem.heads + h) * a.problem.queries + query] =
      total != 0 ? most * static_cast<T>(std::numbers::ln2) + std::log(total) : std::numeric_limits<T>::infinity();
}

template <class T>
void forward_few(const DenseAttentionForward::Arguments<T>& a) {
  const DenseAttentionProblem& p = a.problem;
  const std::int64_t group = p.heads / p.kv_heads,
                     splits = std::max<std::int64_t>(1, cpu::block_count(p.keys, kSplitKeys));
  const std::int64_t part = p.value_width + 2;
  const std::int64_t rows = p.batch * p.heads * p.queries;
  Scratch<T> parts(rows * splits * part);
  T* results = parts.take(rows * splits * part);  // [batch, kv head, split, head of the group, query, Dv + 2]
  const std::int64_t cost = group * p.queries * std::min(p.keys, kSplitKeys) * (p.width + p.value_width);
  cpu::parallel_for(p.batch * p.kv_heads * splits, tasks_per_block(cost), [&](std::int64_t begin, std::int64_t end) {
    Scratch<T> weights(kSplitKeys + 4);
    T* buffer = weights.take(kSplitKeys + 4);
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t split = task % splits, kv_head = task / splits % p.kv_heads, b = task / splits / p.kv_heads;
      for (std::int64_t g = 0; g < group; ++g)
        for (std::int64_t query = 0; query < p.queries; ++query)
          split_query(a, b, kv_head * group + g, query, split, buffer,
                      results + ((task * group + g) * p.queries + query) * part);
    }
  });
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t query = row % p.queries, h = row / p.queries % p.heads, b = row / p.queries / p.heads;
    const std::int64_t kv_head = h / group, g = h % group;
    const std::int64_t first = ((b * p.kv_heads + kv_head) * splits * group + g) * p.queries + query;
    join_splits(a, b, h, query, splits, results + first * part, group * p.queries * part);
  }
}

template <class T>
void forward(const DenseAttentionForward::Arguments<T>& arguments) {
  DenseAttentionForward::Arguments<T> a = arguments;
  const DenseAttentionProblem& p = a.problem;
  if (p.queries * (p.heads / p.kv_heads) <= kFewQueries && p.dropout.p == 0) return forward_few(a);
  PackedHeads<T> keys, values;
  if (p.queries * (p.heads / p.kv_heads) >= kPackQueries) {
    a.k = keys.pack(a.k, p.batch, p.kv_heads, p.keys, p.width);
    a.v = values.pack(a.v, p.batch, p.kv_heads, p.keys, p.value_width);
  }
  const std::int64_t tiles = cpu::block_count(p.queries, kTile);
  const std::int64_t cost = std::min(p.queries, kTile) * p.keys * (p.width + p.value_width);
  cpu::parallel_for(p.batch * p.heads * tiles, tasks_per_block(cost), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task / tiles, tile = tiles - 1 - task % tiles;
      forward_tile(a, row / p.heads, row % p.heads, tile * kTile);
    }
  });
}

}  // namespace

Versions<DenseAttentionForward> dense_attention_forward_versions() { return {forward<float>, forward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(dense_attention_forward_versions);

template <class T>
void DenseAttentionForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(dense_attention_forward_versions)()(a);
}
template void DenseAttentionForward::cpu(const Arguments<float>&);
template void DenseAttentionForward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
