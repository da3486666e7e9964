// ops/cuda/attention_backward.h: the gradients of every attention, with recomputed weights.
//
//     P = 2^(S - L·log2 e),  dS = scale · P ∘ (dP ∘ keep - δ),  dP = dY Vᵀ,  δ_i = Σ_c dy_ic y_ic
//     dQ = dS K,   dK = dSᵀ Q,   dV = (P ∘ keep)ᵀ dY
// Two kernels, so that every sum has one writer: no atomics, the same bits in every run. One has tiles of queries as
// its own rows and goes through their keys, for dQ; the other has tiles of keys and goes through their queries, for dK
// and dV. Scores and dP are made twice for that (7 products instead of 5), and nothing is added up in memory. Both are
// one piece of code: own rows a, b and other rows a, b are
//                own a   own b   other a   other b   sum a   sum b
//   by queries     q      dy        k         v        dq
//   by keys        k      v         q         dy       dk      dv
// Which pairs take part is what a Pairs type knows (attention_forward.h). NaN and infinities are kept to the rows that
// see them as in the forward pass.
#pragma once

#include "ops/cuda/attention_forward.h"

namespace sq::kernel {

enum class Own { queries, keys };

template <class T>
struct BackwardTask {
  AttentionSizes s;
  HeadRows<const T> q[2], k, v, dy;  // q of each set of keys
  const Wide<T>*log_sums, *delta;    // [B,H,Tq]
  HeadRows<T> dq[2], dk, dv;         // null when not wanted
  // By keys, work may come in parts, each a block (Pairs::part): the sums of tiles with several parts go here, to be
  // added up afterwards: [B,Hkv,slots,64,D + Dv].
  Wide<T>* partial;
  std::int64_t slots;
};

/// Fewer columns at a time where two sums need the registers.
template <class T, int kWidth, Own kOwn>
inline constexpr int kBackwardChunk = sizeof(T) == 8 || kOwn == Own::keys || kWidth > 64 ? 32 : 64;

/// Of a query.
template <class T>
struct Statistics {
  Wide<T> log_sum, delta;  // the first times log2 e
};

template <class T, int kWidth, Own kOwn>
struct BackwardMemory {
  using Tile = AttentionTile<T, kWidth>;
  static constexpr int chunk = kBackwardChunk<T, kWidth, kOwn>;
  static constexpr int weight_stride = Tile::template weight_stride<chunk>;
  static constexpr int kOwnRows = Tile::rows * Tile::stride, kChunk = chunk * Tile::stride;
  static constexpr int kWeights = 16 * weight_stride;
  static constexpr std::size_t bytes = sizeof(T) * (2 * kOwnRows + 2 * Tile::stages * kChunk + Tile::warps * kWeights) +
                                       (kOwn == Own::keys ? sizeof(Wide<T>) * 2 * Tile::stages * chunk : 0);

  __device__ T* own_a() const { return cuda::dynamic_shared<T>(); }
  __device__ T* own_b() const { return own_a() + kOwnRows; }
  __device__ T* other_a(int stage) const { return own_a() + 2 * kOwnRows + 2 * stage * kChunk; }
  __device__ T* other_b(int stage) const { return other_a(stage) + kChunk; }
  /// Of this warp.
  __device__ T* weights() const { return all_weights() + cuda::warp_index() * kWeights; }
  /// Of each column's query, by keys.
  __device__ Statistics<T>* statistics(int stage) const {
    return reinterpret_cast<Statistics<T>*>(all_weights() + Tile::warps * kWeights) + stage * chunk;
  }

 private:
  __device__ T* all_weights() const { return own_a() + 2 * kOwnRows + 2 * Tile::stages * kChunk; }
};

/// Heads of a block's two sides, and its own rows.
struct BackwardPlace {
  std::int64_t b, head, kv_head, first;
};

template <class T, int kWidth>
struct BackwardState {
  Wide<T> sum_a[AttentionTile<T, kWidth>::tiles][4];
  Wide<T> sum_b[AttentionTile<T, kWidth>::tiles][4];  // by keys
};

template <class T>
__device__ inline Statistics<T> statistics(const BackwardTask<T>& a, const BackwardPlace& at, std::int64_t query) {
  if (query >= a.s.queries) return {cuda::infinity<Wide<T>>(), 0};
  const std::int64_t i = (at.b * a.s.heads + at.head) * a.s.queries + query;
  return {a.log_sums[i] * static_cast<Wide<T>>(std::numbers::log2e), a.delta[i]};
}

/// A score becomes P ∘ keep and dP becomes dS.
template <class T>
__device__ inline void slope(const AttentionSizes& s, const Statistics<T>& of_query, Wide<T> keep, Wide<T>& score,
                             Wide<T>& dp) {
  using W = Wide<T>;
  const W weight = exp2(score * static_cast<W>(s.scale * std::numbers::log2e) - of_query.log_sum);
  dp = static_cast<W>(s.scale) * weight * (dp * keep - of_query.delta);
  score = weight * keep;
}

/// The query and key of a pair of an own row and one of the other side.
template <Own kOwn>
__device__ inline QueryKey query_key(std::int64_t own, std::int64_t other) {
  return kOwn == Own::queries ? QueryKey{own, other} : QueryKey{other, own};
}

/// Pairs that single rows have: two at a time for each of the warp's rows g, then for each of its rows g + 8.
template <Own kOwn, int kWidth, class T, class Walk>
__device__ inline void backward_rest(const BackwardTask<T>& a, const BackwardPlace& at,
                                     const HeadRows<const T>& other_a, const HeadRows<const T>& other_b,
                                     const Walk& walk, BackwardState<T, kWidth>& state) {
  using W = Wide<T>;
  using Memory = BackwardMemory<T, kWidth, kOwn>;
  constexpr int kTogether = 2;
  const AttentionSizes& s = a.s;
  const Memory memory;
  const std::int64_t head = kOwn == Own::queries ? at.kv_head : at.head;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = BlockPlace::own_row() + 8 * half;
    const T *own_a = memory.own_a() + row * Memory::Tile::stride, *own_b = memory.own_b() + row * Memory::Tile::stride;
    const std::int64_t begin = walk.rest_begin(row), own = at.first + row;
    const int count = walk.rest_count(row), longest = cuda::warp_reduce<Most>(count);
    const Statistics<T> mine = kOwn == Own::queries ? statistics(a, at, own) : Statistics<T>{cuda::infinity<W>(), 0};
    for (int n = 0; n < longest; n += kTogether) {
      W score[kTogether], dp[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        score[i] = dp[i] = 0;
        if (n + i >= count) continue;
        const std::int64_t other = walk.rest_row(begin + n + i);
        score[i] = part_of_dot(own_a, other_a.at(at.b, head, other), s.width, s.aligned);
        dp[i] = part_of_dot(own_b, other_b.at(at.b, head, other), s.value_width, s.aligned);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        score[i] = cuda::warp_reduce<cuda::Plus, 4>(score[i]);
        dp[i] = cuda::warp_reduce<cuda::Plus, 4>(dp[i]);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (n + i >= count) break;
        const std::int64_t other = walk.rest_row(begin + n + i);
        W keep = 1;
        if (s.dropout.p > 0) {
          const QueryKey pair = query_key<kOwn>(own, other);
          keep = is_kept(s, at.b, at.head, pair.query, pair.key, walk.rest_repeat(begin + n + i)) ? kept_factor<W>(s)
                                                                                                  : W(0);
        }
        slope<T>(s, kOwn == Own::queries ? mine : statistics(a, at, other), keep, score[i], dp[i]);
        add_row(state.sum_a, half, dp[i], other_a.at(at.b, head, other), s.width, s.aligned);
        if constexpr (kOwn == Own::keys)
          add_row(state.sum_b, half, score[i], other_b.at(at.b, head, other), s.value_width, s.aligned);
      }
    }
  }
}

/// Scores and dP of a chunk become P ∘ keep and dS; pairs that are not alive become 0.
template <Own kOwn, int kTiles, class T, class Walk>
__device__ inline void backward_weights(const BackwardTask<T>& a, const BackwardPlace& at, const Walk& walk,
                                        std::int64_t column, int count, const Statistics<T>* of_columns,
                                        Wide<T> (&score)[kTiles][4], Wide<T> (&dp)[kTiles][4]) {
  using W = Wide<T>;
  const int row = BlockPlace::own_row(), t = cuda::lane_index() % 4;
  const std::uint32_t alive = alive_bits<kTiles>(walk, column, count);
  const std::uint32_t keep =
      kept_bits<kTiles>(a.s, walk, at.b, at.head, column, alive,
                        [&](int own, std::int64_t other) { return query_key<kOwn>(at.first + own, other); });
  const W kept = kept_factor<W>(a.s);
  Statistics<T> mine[2] = {};
  if constexpr (kOwn == Own::queries) {
    mine[0] = statistics(a, at, at.first + row);
    mine[1] = statistics(a, at, at.first + row + 8);
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      Statistics<T> theirs = {};
      if constexpr (kOwn == Own::keys) theirs = of_columns[8 * n + 2 * t + i];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int bit = 4 * n + 2 * half + i;
        W &x = score[n][2 * half + i], &dx = dp[n][2 * half + i];
        slope<T>(a.s, kOwn == Own::queries ? mine[half] : theirs, (keep >> bit & 1) != 0 ? kept : W(0), x, dx);
        if ((alive >> bit & 1) == 0) x = dx = 0;
      }
    }
}

/// sum += weights · rows, of all pairs or, `exact`, of those alive.
template <Own kOwn, int kWidth, int kSums, int kTiles, class T, class Walk>
__device__ inline void add_weighted_rows(Wide<T> (&sum)[kSums][4], const Wide<T> (&weight)[kTiles][4], const T* rows,
                                         int width, bool exact, const Walk& walk, std::int64_t column, int count) {
  using Memory = BackwardMemory<T, kWidth, kOwn>;
  T* const left = Memory().weights();
  store_weights(weight, left, Memory::weight_stride);
  if (exact) {
    const int first = cuda::warp_index() * 16;
    multiply_live(sum, left, Memory::weight_stride, rows, Memory::Tile::stride, count, width,
                  [&](int row, int c) { return walk.alive(first + row, column + c); });
  } else {
    multiply<Right::by_terms>(sum, left, Memory::weight_stride, rows, Memory::Tile::stride, Memory::chunk, width);
  }
}

/// All chunks of a walk.
template <Own kOwn, int kWidth, class T, class Walk>
__device__ inline void backward_chunks(const BackwardTask<T>& a, const BackwardPlace& at,
                                       const HeadRows<const T>& other_a, const HeadRows<const T>& other_b,
                                       const Walk& walk, bool exact, BackwardState<T, kWidth>& state) {
  using Memory = BackwardMemory<T, kWidth, kOwn>;
  using Tile = AttentionTile<T, kWidth>;
  const Memory memory;
  const AttentionSizes& s = a.s;
  const std::int64_t head = kOwn == Own::queries ? at.kv_head : at.head;
  const auto load = [&](std::int64_t column, int stage) {
    load_chunk<kWidth>(s, other_a, other_b, at.b, head, head, walk, column, Memory::chunk, memory.other_a(stage),
                       memory.other_b(stage));
    cuda::copy_async_commit();
    if constexpr (kOwn == Own::keys)
      if (const int c = cuda::thread_index(); c < Memory::chunk)
        memory.statistics(stage)[c] = statistics(a, at, column + c < walk.end ? walk.row(column + c) : s.queries);
  };
  if (Tile::stages == 2 && walk.begin < walk.end) load(walk.begin, 0);
  int stage = 0;
  for (std::int64_t column = walk.begin; column < walk.end; column += Memory::chunk) {
    if constexpr (Tile::stages == 1) {
      cuda::sync_threads();  // everyone is done with the chunk before
      load(column, 0);
    }
    cuda::copy_async_wait<0>();
    cuda::sync_threads();
    if (Tile::stages == 2 && column + Memory::chunk < walk.end) load(column + Memory::chunk, 1 - stage);
    const int count = static_cast<int>(walk.end - column < Memory::chunk ? walk.end - column : Memory::chunk);
    const int own = cuda::warp_index() * 16 * Tile::stride;
    Wide<T> score[Memory::chunk / 8][4], dp[Memory::chunk / 8][4];
    clear(score);
    clear(dp);
    multiply<Right::by_columns>(score, memory.own_a() + own, Tile::stride, memory.other_a(stage), Tile::stride,
                                filled<T, kWidth>(s.width), count);
    multiply<Right::by_columns>(dp, memory.own_b() + own, Tile::stride, memory.other_b(stage), Tile::stride,
                                filled<T, kWidth>(s.value_width), count);
    backward_weights<kOwn>(a, at, walk, column, count, kOwn == Own::keys ? memory.statistics(stage) : nullptr, score,
                           dp);
    add_weighted_rows<kOwn, kWidth>(state.sum_a, dp, memory.other_a(stage), s.width, exact, walk, column, count);
    if constexpr (kOwn == Own::keys)
      add_weighted_rows<kOwn, kWidth>(state.sum_b, score, memory.other_b(stage), s.value_width, exact, walk, column,
                                      count);
    if (Tile::stages == 2) stage = 1 - stage;
  }
  cuda::sync_threads();
}

/// Brings the own rows a and b of a block to shared memory; they are there when it returns.
template <Own kOwn, int kWidth, class T>
__device__ inline void load_own(const BackwardTask<T>& a, const HeadRows<const T>& from_a,
                                const HeadRows<const T>& from_b, const BackwardPlace& at) {
  const BackwardMemory<T, kWidth, kOwn> memory;
  const std::int64_t head = kOwn == Own::queries ? at.head : at.kv_head;
  const std::int64_t rows = kOwn == Own::queries ? a.s.queries : a.s.keys;
  const auto loader = [&](const HeadRows<const T>& from) {
    return [&, rows](int row) -> const T* {
      return at.first + row < rows ? from.at(at.b, head, at.first + row) : nullptr;
    };
  };
  load_rows<kWidth>(memory.own_a(), AttentionTile<T, kWidth>::rows, a.s.width, a.s.aligned, loader(from_a));
  load_rows<kWidth>(memory.own_b(), AttentionTile<T, kWidth>::rows, a.s.value_width, a.s.aligned, loader(from_b));
  cuda::copy_async_commit();
  cuda::copy_async_wait<0>();
  cuda::sync_threads();
}

/// dQ. One block for each tile of queries, query head and batch row.
template <int kWidth, class T, class Pairs>
__global__ void __launch_bounds__(AttentionTile<T, kWidth>::threads)
    attention_backward_queries(BackwardTask<T> a, Pairs pairs) {
  const AttentionSizes& s = a.s;
  BackwardPlace at{.b = cuda::block_index(2),
                   .head = cuda::block_index(1),
                   .kv_head = 0,
                   .first = (cuda::block_count() - 1 - cuda::block_index()) * AttentionTile<T, kWidth>::rows};
  at.kv_head = at.head / s.group();
  BackwardState<T, kWidth> state;
  for (int set = 0; set < Pairs::kSets; ++set) {
    if (!a.dq[set]) continue;
    const auto walk = pairs.walk(at.b, at.first, set);
    load_own<Own::queries, kWidth>(a, a.q[set], a.dy, at);
    for (int exact = 0; exact < 2; ++exact) {
      clear(state.sum_a);
      if constexpr (Pairs::kHasRest) backward_rest<Own::queries>(a, at, a.k, a.v, walk, state);
      backward_chunks<Own::queries>(a, at, a.k, a.v, walk, exact != 0, state);
      if (block_agrees(all_finite(state.sum_a))) break;
    }
    store_sums(
        state.sum_a, s.width, s.aligned, [](int) { return Wide<T>(1); },
        [&](int row) -> T* {
          const std::int64_t query = at.first + cuda::warp_index() * 16 + row;
          return query < s.queries ? a.dq[set].at(at.b, at.head, query) : nullptr;
        });
  }
}

/// Where a block's sums for its keys go: to dK and dV, or among the partial sums.
template <int kWidth, class T>
__device__ inline void store_keys(const BackwardTask<T>& a, const BackwardPlace& at, std::int64_t slot,
                                  const BackwardState<T, kWidth>& state) {
  const AttentionSizes& s = a.s;
  const auto one = [](int) { return Wide<T>(1); };
  if (slot >= 0) {
    constexpr std::int64_t kRows = 64;  // of a slot; smaller blocks fill it together
    const std::int64_t width = s.width + s.value_width;
    Wide<T>* to = a.partial + (((at.b * s.kv_heads + at.kv_head) * a.slots + slot) * kRows + at.first % kRows) * width;
    const auto row_of = [&](int row) { return to + (cuda::warp_index() * 16 + row) * width; };
    store_sums(state.sum_a, s.width, s.aligned, one, row_of);
    store_sums(state.sum_b, s.value_width, s.aligned, one, [&](int row) { return row_of(row) + s.width; });
    return;
  }
  const auto row_of = [&](const HeadRows<T>& to) {
    return [&](int row) -> T* {
      const std::int64_t key = at.first + cuda::warp_index() * 16 + row;
      return to && key < s.keys ? to.at(at.b, at.kv_head, key) : nullptr;
    };
  };
  store_sums(state.sum_a, s.width, s.aligned, one, row_of(a.dk));
  store_sums(state.sum_b, s.value_width, s.aligned, one, row_of(a.dv));
}

/// dK and dV. One block for each part of the work of a tile of keys, key/value head and batch row; the query heads that
/// share the keys are taken in order.
template <int kWidth, class T, class Pairs>
__global__ void __launch_bounds__(AttentionTile<T, kWidth>::threads)
    attention_backward_keys(BackwardTask<T> a, Pairs pairs) {
  const auto part = pairs.part(cuda::block_index());
  BackwardPlace at{.b = cuda::block_index(2), .head = 0, .kv_head = cuda::block_index(1), .first = part.first};
  BackwardState<T, kWidth> state;
  load_own<Own::keys, kWidth>(a, a.k, a.v, at);
  for (int exact = 0; exact < 2; ++exact) {
    clear(state.sum_a);
    clear(state.sum_b);
    for (std::int64_t g = 0; g < a.s.group(); ++g)
      for (int set = 0; set < Pairs::kSets; ++set) {
        if (set > 0 && !a.q[set]) continue;
        at.head = at.kv_head * a.s.group() + g;
        const auto walk = pairs.walk(at.b, part, set);
        if constexpr (Pairs::kHasRest) backward_rest<Own::keys>(a, at, a.q[set], a.dy, walk, state);
        backward_chunks<Own::keys>(a, at, a.q[set], a.dy, walk, exact != 0, state);
      }
    const bool finite = all_finite(state.sum_a) && all_finite(state.sum_b);
    if (block_agrees(finite)) break;
  }
  store_keys(a, at, part.slot, state);
}

/// δ_i = Σ_c dy_ic y_ic: one warp a query.
template <class T>
__global__ void __launch_bounds__(256)
    attention_delta(AttentionSizes s, HeadRows<const T> y, HeadRows<const T> dy, Wide<T>* delta) {
  const std::int64_t row = cuda::global_index() / cuda::kWarp;
  if (row >= s.batch * s.heads * s.queries) return;
  const std::int64_t query = row % s.queries, head = row / s.queries % s.heads, b = row / s.queries / s.heads;
  const T *a = y.at(b, head, query), *d = dy.at(b, head, query);
  Wide<T> sum = 0;
  for (int c = cuda::lane_index(); c < s.value_width; c += cuda::kWarp) sum += cuda::load(a + c) * cuda::load(d + c);
  sum = cuda::warp_sum(sum);
  if (cuda::lane_index() == 0) delta[row] = sum;
}

template <class T>
void launch_delta(const cuda::Context& context, std::string_view name, const AttentionSizes& s, HeadRows<const T> y,
                  HeadRows<const T> dy, Wide<T>* delta) {
  cuda::launch_kernel(context, name, attention_delta<T>,
                      {.blocks = cuda::blocks_for(s.batch * s.heads * s.queries, 256 / cuda::kWarp), .threads = 256}, s,
                      y, dy, delta);
}

/// dQ, where it is wanted.
template <class T, class Pairs>
void launch_backward_queries(const cuda::Context& context, std::string_view name, const BackwardTask<T>& task,
                             const Pairs& pairs) {
  if (!task.dq[0] && !task.dq[1]) return;
  with_head_width(task.s, name, [&]<int kWidth>() {
    using Tile = AttentionTile<T, kWidth>;
    cuda::launch_kernel(context, name, attention_backward_queries<kWidth, T, Pairs>,
                        {.blocks = cuda::blocks_for(task.s.queries, Tile::rows),
                         .threads = Tile::threads,
                         .shared_bytes = BackwardMemory<T, kWidth, Own::queries>::bytes,
                         .blocks_y = task.s.heads,
                         .blocks_z = task.s.batch},
                        task, pairs);
  });
}

/// dK and dV, where they are wanted, in so many parts.
template <class T, class Pairs>
void launch_backward_keys(const cuda::Context& context, std::string_view name, const BackwardTask<T>& task,
                          const Pairs& pairs, std::int64_t parts) {
  if (!task.dk && !task.dv) return;
  with_head_width(task.s, name, [&]<int kWidth>() {
    using Tile = AttentionTile<T, kWidth>;
    cuda::launch_kernel(context, name, attention_backward_keys<kWidth, T, Pairs>,
                        {.blocks = parts,
                         .threads = Tile::threads,
                         .shared_bytes = BackwardMemory<T, kWidth, Own::keys>::bytes,
                         .blocks_y = task.s.kv_heads,
                         .blocks_z = task.s.batch},
                        task, pairs);
  });
}

}  // namespace sq::kernel
