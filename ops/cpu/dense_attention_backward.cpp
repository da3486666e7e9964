// ops/cpu/dense_attention_backward.cpp: gradients of dense attention with recomputed weights.
//
// For a tile of queries (Q, dY, L, δ with δ_i = Σ_c dy_ic y_ic) and a tile of keys (K, V):
//     S  = K Qᵀ · scale·log2 e       scores, [key][query] as in the forward pass
//     P  = 2^(S - L·log2 e)          the weights again
//     dP = V dYᵀ · scale             (times the dropout factor, where there is one)
//     dS = P ∘ (dP - scale·δ)
//     dV += P dY     dK += dS Q     dQ += dSᵀ K        (P times the dropout factor in dV)
// All five products read P and dS as they lie: [key][query] is a left factor by rows for dV and dK and by columns for
// dQ. Qᵀ and dYᵀ are transposed once for all key tiles of a block.
//
// Several blocks of keys add to the same dQ and several blocks of queries to the same dK and dV. Without atomics and
// with the same bits for any number of threads: the pairs (block of queries, block of keys) are walked in rounds; in a
// round every block of queries and every block of keys occurs at most once, so all pairs of a round are independent.
// The rounds run along the diagonals, so that a tile of queries meets the tiles of keys in falling order and a tile of
// keys those of queries in rising order, whatever the size of the blocks. Since every sum continues where the pair
// before left it, the size may follow the number of threads: large blocks load and transpose less, small ones keep more
// threads busy. The first pair with a block of queries (of keys) begins dQ (dK, dV) from 0 instead of from memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/dense_attention_backward.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cpu/dense_tile-inl.h"
#include "ops/cpu/exp-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "ops/dense_attention.h"
#include "tensor/cpu/threads.h"

#include <numbers>
#include <utility>
#include <vector>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kLargestBlock = 8 * kTile;

/// One task: a block of keys of one key/value head and a block of queries of the heads that share it.
struct BlockPair {
  std::int64_t b, kv_head, query, key, query_end, key_end;
  bool first_of_queries, first_of_keys;
};

/// The memory of one task.
template <class T>
struct BackwardTile {
  T *queries, *upstream;                  // Qᵀ, dYᵀ
  T *scores, *slopes, *keep;              // S then P, dP then dS
  T *q_rows, *dy_rows, *k_rows, *v_rows;  // packed copies, where the rows are not packed
  T *dq, *dk, *dv;                        // sums of this task
  T *log_sums, *delta;
  PackedRows<T> k, v;  // the block of keys

  static std::int64_t size(const DenseAttentionProblem& p, std::int64_t keys) {
    const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
    return kTile * (p.width + p.value_width + 2 * kTile + (p.dropout.p > 0 ? kTile : 0) + 2 * width + value_width + 2) +
           2 * keys * (width + value_width);
  }
  BackwardTile(Scratch<T>& scratch, const DenseAttentionProblem& p, std::int64_t keys)
      : queries(scratch.take(p.width * kTile)),
        upstream(scratch.take(p.value_width * kTile)),
        scores(scratch.take(kTile * kTile)),
        slopes(scratch.take(kTile * kTile)),
        keep(scratch.take(p.dropout.p > 0 ? kTile * kTile : 0)),
        q_rows(scratch.take(kTile * padded<T>(p.width))),
        dy_rows(scratch.take(kTile * padded<T>(p.value_width))),
        k_rows(scratch.take(keys * padded<T>(p.width))),
        v_rows(scratch.take(keys * padded<T>(p.value_width))),
        dq(scratch.take(kTile * padded<T>(p.width))),
        dk(scratch.take(keys * padded<T>(p.width))),
        dv(scratch.take(keys * padded<T>(p.value_width))),
        log_sums(scratch.take(kTile)),
        delta(scratch.take(kTile)) {}
};

/// One tile of queries of head h with the tile of keys at `key`; `slot` is the tile's first row in the task's dk and
/// dv.
template <class T>
void backward_tile(const DenseAttentionBackward::Arguments<T>& a, const BackwardTile<T>& t, const BlockPair& pair,
                   std::int64_t h, std::int64_t query, std::int64_t queries, std::int64_t key, std::int64_t slot,
                   const PackedRows<T>& q, const PackedRows<T>& dy) {
  const DenseAttentionProblem& p = a.problem;
  const PairMask mask = mask_of(p, pair.b, query, queries, key);
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  const T* k = t.k.data + slot * t.k.stride;
  const T* v = t.v.data + slot * t.v.stride;
  product<Start::zero>(Product<T>{k, t.k.stride, 1, t.queries, kTile, t.scores, kTile}, 0, mask.rows,
                       mask.pairs<T>(p.width));
  product<Start::zero>(Product<T>{v, t.v.stride, 1, t.upstream, kTile, t.slopes, kTile}, 0, mask.rows,
                       mask.pairs<T>(p.value_width));
  const bool dropout = p.dropout.p > 0;
  if (dropout) fill_keep_tile(p, pair.b, h, query, queries, key, mask.rows, t.keep);
  slopes_tile<Queries::in_lanes, T>(t.scores, t.slopes, dropout ? t.keep : nullptr, mask, t.log_sums, t.delta);
  if (a.dv)
    sum_over_lanes<Start::keep>(
        Product<T>{t.scores, kTile, 1, dy.data, dy.stride, t.dv + slot * value_width, value_width}, mask, value_width);
  if (a.dk)
    sum_over_lanes<Start::keep>(Product<T>{t.slopes, kTile, 1, q.data, q.stride, t.dk + slot * width, width}, mask,
                                width);
  if (a.dq) sum_over_rows<Start::keep>(Product<T>{t.slopes, 1, kTile, k, t.k.stride, t.dq, width}, mask, width);
}

/// The sums so far, in rows of whole vectors: those of an earlier pair, or none yet.
template <class T>
void load_rows(bool first, const T* rows, std::int64_t row, std::int64_t count, std::int64_t width, T* sums) {
  if (first)
    std::fill_n(sums, count * padded<T>(width), T(0));
  else
    pack_rows(rows, row, count, width, sums);
}

template <class T>
void clear_rows(T* rows, std::int64_t row, std::int64_t count, std::int64_t width) {
  for (std::int64_t r = 0; r < count; ++r) std::fill_n(rows + r * row, width, T(0));
}

template <class T>
void store_rows(const T* sums, std::int64_t stride, std::int64_t count, std::int64_t width, T* rows, std::int64_t row) {
  for (std::int64_t r = 0; r < count; ++r) std::copy_n(sums + r * stride, width, rows + r * row);
}

/// δ_i = Σ_c dy_ic y_ic for `count` queries of head h.
template <class T>
void fill_delta(const DenseAttentionBackward::Arguments<T>& a, std::int64_t b, std::int64_t h, std::int64_t query,
                std::int64_t count, T* delta) {
  for (std::int64_t r = 0; r < count; ++r)
    delta[r] = dot(a.y.at(b, h, query + r), a.dy.at(b, h, query + r), a.problem.value_width);
}

/// A tile of queries of head h with all keys of the task's block.
template <class T>
void backward_queries(const DenseAttentionBackward::Arguments<T>& a, const BackwardTile<T>& t, const T* delta,
                      const BlockPair& pair, std::int64_t h, std::int64_t query) {
  const DenseAttentionProblem& p = a.problem;
  const std::int64_t queries = std::min(kTile, pair.query_end - query), width = padded<T>(p.width);
  const KeyRange seen = keys_seen(p, pair.b, query, query + queries);
  const std::int64_t key_end = std::min(pair.key_end, seen.end);
  T* dq = a.dq ? a.dq.at(pair.b, h, query) : nullptr;
  if (key_end <= std::max(pair.key, seen.begin)) {
    if (dq && pair.first_of_queries) clear_rows(dq, a.dq.row, queries, p.width);
    return;
  }
  const T* q = a.q.at(pair.b, h, query);
  const T* dy = a.dy.at(pair.b, h, query);
  transpose_tile(q, a.q.row, queries, p.width, static_cast<T>(p.scale * std::numbers::log2e), t.queries);
  transpose_tile(dy, a.dy.row, queries, p.value_width, static_cast<T>(p.scale), t.upstream);
  const std::int64_t first = (pair.b * p.heads + h) * p.queries + query;
  if (delta)
    std::copy_n(delta + first, queries, t.delta);
  else
    fill_delta(a, pair.b, h, query, queries, t.delta);
  for (std::int64_t r = 0; r < kTile; ++r) {
    t.log_sums[r] = r < queries ? a.log_sums[first + r] * static_cast<T>(std::numbers::log2e) : T(0);
    t.delta[r] = r < queries ? t.delta[r] * static_cast<T>(p.scale) : T(0);
  }
  const PackedRows<T> q_rows = packed_rows(q, a.q.row, queries, p.width, t.q_rows);
  const PackedRows<T> dy_rows = packed_rows(dy, a.dy.row, queries, p.value_width, t.dy_rows);
  if (dq) load_rows(pair.first_of_queries, dq, a.dq.row, queries, p.width, t.dq);
  for (std::int64_t key = (key_end - 1) / kTile * kTile; key >= pair.key && key + kTile > seen.begin; key -= kTile)
    backward_tile(a, t, pair, h, query, queries, key, key - pair.key, q_rows, dy_rows);
  if (dq) store_rows(t.dq, width, queries, p.width, dq, a.dq.row);
}

template <class T>
void backward_pair(const DenseAttentionBackward::Arguments<T>& a, const T* delta, const BlockPair& pair) {
  const DenseAttentionProblem& p = a.problem;
  const std::int64_t group = p.heads / p.kv_heads, keys = pair.key_end - pair.key;
  const std::int64_t width = padded<T>(p.width), value_width = padded<T>(p.value_width);
  Scratch<T> scratch(BackwardTile<T>::size(p, keys));
  BackwardTile<T> t(scratch, p, keys);
  const auto rows_of = [&](const auto& rows) { return rows.at(pair.b, pair.kv_head, pair.key); };
  t.k = packed_rows(rows_of(a.k), a.k.row, keys, p.width, t.k_rows);
  t.v = packed_rows(rows_of(a.v), a.v.row, keys, p.value_width, t.v_rows);
  if (a.dk) load_rows<T>(pair.first_of_keys, rows_of(a.dk), a.dk.row, keys, p.width, t.dk);
  if (a.dv) load_rows<T>(pair.first_of_keys, rows_of(a.dv), a.dv.row, keys, p.value_width, t.dv);
  for (std::int64_t query = pair.query; query < pair.query_end; query += kTile)
    for (std::int64_t g = 0; g < group; ++g) backward_queries(a, t, delta, pair, pair.kv_head * group + g, query);
  if (a.dk) store_rows(t.dk, width, keys, p.width, rows_of(a.dk), a.dk.row);
  if (a.dv) store_rows(t.dv, value_width, keys, p.value_width, rows_of(a.dv), a.dv.row);
}

/// δ for all rows [B,H,Tq].
template <class T>
void fill_delta(const DenseAttentionBackward::Arguments<T>& a, T* delta) {
  const DenseAttentionProblem& p = a.problem;
  const std::int64_t tiles = cpu::block_count(p.queries, kTile);
  cpu::parallel_for(p.batch * p.heads * tiles, 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t row = task / tiles, query = task % tiles * kTile;
      fill_delta(a, row / p.heads, row % p.heads, query, std::min(kTile, p.queries - query),
                 delta + row * p.queries + query);
    }
  });
}

/// Which blocks of queries and of keys a pair has met so far, [B, blocks] each.
struct Met {
  std::int64_t query_blocks, key_blocks;
  std::vector<char> queries, keys;

  Met(const DenseAttentionProblem& p, std::int64_t block)
      : query_blocks(cpu::block_count(p.queries, block)),
        key_blocks(cpu::block_count(p.keys, block)),
        queries(static_cast<std::size_t>(p.batch * query_blocks)),
        keys(static_cast<std::size_t>(p.batch * key_blocks)) {}
  char& query(std::int64_t b, std::int64_t i) { return queries[static_cast<std::size_t>(b * query_blocks + i)]; }
  char& key(std::int64_t b, std::int64_t i) { return keys[static_cast<std::size_t>(b * key_blocks + i)]; }
};

/// The live pairs of a round: those whose blocks are `round` apart in causal order, else those whose numbers add up to
/// it.
inline std::vector<BlockPair> pairs_of_round(const DenseAttentionProblem& p, std::int64_t block, std::int64_t round,
                                             Met& met) {
  std::vector<BlockPair> pairs;
  for (std::int64_t b = 0; b < p.batch; ++b)
    for (std::int64_t i = 0; i < met.key_blocks; ++i) {
      const std::int64_t key_block = p.causal ? met.key_blocks - 1 - i : i, query_block = round - i;
      if (query_block < 0 || query_block >= met.query_blocks) continue;
      const std::int64_t key = key_block * block, query = query_block * block;
      const std::int64_t query_end = std::min(query + block, p.queries), key_end = std::min(key + block, p.keys);
      const KeyRange seen = keys_seen(p, b, query, query_end);
      if (std::max(seen.begin, key) >= std::min(seen.end, key_end)) continue;
      const bool first_of_queries = std::exchange(met.query(b, query_block), 1) == 0;
      const bool first_of_keys = std::exchange(met.key(b, key_block), 1) == 0;
      for (std::int64_t kv_head = 0; kv_head < p.kv_heads; ++kv_head)
        pairs.push_back({b, kv_head, query, key, query_end, key_end, first_of_queries, first_of_keys});
    }
  return pairs;
}

/// The gradients of blocks that no pair has met are 0.
template <class T>
void clear_others(const DenseAttentionBackward::Arguments<T>& a, std::int64_t block, Met& met) {
  const DenseAttentionProblem& p = a.problem;
  const auto clear = [&](const HeadRows<T>& rows, std::int64_t b, std::int64_t heads, std::int64_t first,
                         std::int64_t count, std::int64_t width) {
    for (std::int64_t h = 0; rows && h < heads; ++h)
      clear_rows(rows.at(b, h, first), rows.row, std::min(block, count - first), width);
  };
  for (std::int64_t b = 0; b < p.batch; ++b) {
    for (std::int64_t i = 0; i < met.query_blocks; ++i)
      if (!met.query(b, i)) clear(a.dq, b, p.heads, i * block, p.queries, p.width);
    for (std::int64_t i = 0; i < met.key_blocks; ++i) {
      if (met.key(b, i)) continue;
      clear(a.dk, b, p.kv_heads, i * block, p.keys, p.width);
      clear(a.dv, b, p.kv_heads, i * block, p.keys, p.value_width);
    }
  }
}

template <class T>
void backward(const DenseAttentionBackward::Arguments<T>& arguments) {
  DenseAttentionBackward::Arguments<T> a = arguments;
  const DenseAttentionProblem& p = a.problem;
  std::int64_t block = kLargestBlock;
  const auto tasks = [&] { return p.batch * p.kv_heads * cpu::block_count(std::min(p.queries, p.keys), block); };
  while (block > kTile && tasks() < 4 * cpu::thread_count()) block /= 2;
  // Where one task has all keys, it forms δ itself, of rows that it reads anyway.
  Scratch<T> scratch(p.keys > block ? p.batch * p.heads * p.queries : 0);
  T* delta = p.keys > block ? scratch.take(p.batch * p.heads * p.queries) : nullptr;
  if (delta) fill_delta(a, delta);
  PackedHeads<T> keys, values, queries, upstream;
  if (std::min(p.queries, p.keys) > kTile) {
    a.k = keys.pack(a.k, p.batch, p.kv_heads, p.keys, p.width);
    a.v = values.pack(a.v, p.batch, p.kv_heads, p.keys, p.value_width);
    a.q = queries.pack(a.q, p.batch, p.heads, p.queries, p.width);
    a.dy = upstream.pack(a.dy, p.batch, p.heads, p.queries, p.value_width);
  }
  const std::int64_t cost =
      p.heads / p.kv_heads * std::min(p.queries, block) * std::min(p.keys, block) * (p.width + p.value_width) * 5 / 2;
  Met met(p, block);
  for (std::int64_t round = 0; round < met.query_blocks + met.key_blocks - 1; ++round) {
    const std::vector<BlockPair> pairs = pairs_of_round(p, block, round, met);
    cpu::parallel_for(static_cast<std::int64_t>(pairs.size()), tasks_per_block(cost),
                      [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t i = begin; i < end; ++i)
                          backward_pair(a, delta, pairs[static_cast<std::size_t>(i)]);
                      });
  }
  clear_others(a, block, met);
}

}  // namespace

Versions<DenseAttentionBackward> dense_attention_backward_versions() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(dense_attention_backward_versions);

template <class T>
void DenseAttentionBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(dense_attention_backward_versions)()(a);
}
template void DenseAttentionBackward::cpu(const Arguments<float>&);
template void DenseAttentionBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
