// ops/cuda/attention_forward.h: the forward pass of every attention, tile by tile with an online softmax (Dao et al.
// 2022, algorithm 1). Which keys a query reads is what a Pairs type knows:
//
//   static constexpr int kSets          sets of keys, each with its own query vectors
//   static constexpr bool kHasRest      whether there are keys that single queries read
//   walk(b, first, set)                 for the own rows from `first` on, an object with
//     begin, end                        columns: what many own rows read of the other side, row(column) of it
//     alive(own row, column), whole(column, count)   which pairs take part; whether all of a chunk do
//     repeat(column)                    how often the pair occurred before (for dropout)
//     rest_begin(own row), rest_count(own row), rest_row(n), rest_repeat(n)
//
// With the scores S (times log2 e), for each chunk of keys
//     m' = max(m, max S),  α = 2^(m - m'),  P = 2^(S - m'),  l = α l + Σ P,  O = α O + P V
// and in the end y = O / l, L = (m + log2 l) / log2 e.
//
// A NaN or an infinity in V reaches, times the weight 0, all queries of the tile. It is found in the result; the tile
// is then done once more with sums over the living pairs alone.
#pragma once

#include "ops/cuda/attention_tile.h"

#include <algorithm>

namespace sq::kernel {

template <class T>
struct ForwardTask {
  AttentionSizes s;
  HeadRows<const T> q[2];  // of each set of keys
  HeadRows<const T> k, v;
  HeadRows<T> y;
  Wide<T>* log_sums;  // [B,H,Tq]
};

template <class T, int kWidth>
struct ForwardMemory {
  using Tile = AttentionTile<T, kWidth>;
  static constexpr int kWeightStride = Tile::template weight_stride<Tile::chunk>;
  static constexpr int kOwn = Tile::rows * Tile::stride, kChunk = Tile::chunk * Tile::stride;
  static constexpr int kWeights = 16 * kWeightStride;
  static constexpr std::size_t bytes = sizeof(T) * (kOwn + 2 * Tile::stages * kChunk + Tile::warps * kWeights);

  __device__ T* queries() const { return cuda::dynamic_shared<T>(); }
  __device__ T* keys(int stage) const { return queries() + kOwn + 2 * stage * kChunk; }
  __device__ T* values(int stage) const { return keys(stage) + kChunk; }
  /// Of this warp.
  __device__ T* weights() const { return queries() + kOwn + 2 * Tile::stages * kChunk + cuda::warp_index() * kWeights; }
};

/// What a block works on.
struct BlockPlace {
  std::int64_t b, head, first;  // `first` of its own rows
  __device__ static int own_row() { return cuda::warp_index() * 16 + cuda::lane_index() / 4; }
};

template <class T, int kWidth>
struct ForwardState {
  Wide<T> sum[AttentionTile<T, kWidth>::tiles][4];
  Wide<T> most[2], total[2];  // of rows g and g + 8; the total is this lane's part
};

template <class W>
__device__ inline W shift_for(W most) {
  // Where no pair has been alive so far, subtracting -∞ would give NaN; subtract 0 instead.
  return most == -cuda::infinity<W>() ? W(0) : most;
}

/// Makes room for scores up to `most`: O and l shrink by the factor α. Returns what is subtracted from scores.
template <int kWidth, class T>
__device__ inline Wide<T> raise(ForwardState<T, kWidth>& state, int half, Wide<T> most) {
  most = cuda::larger(state.most[half], most);
  const Wide<T> shift = shift_for(most), rescale = exp2(state.most[half] - shift);
  state.most[half] = most;
  state.total[half] *= rescale;
#pragma unroll
  for (int n = 0; n < AttentionTile<T, kWidth>::tiles; ++n) {
    if (half == 0) {
      state.sum[n][0] *= rescale;
      state.sum[n][1] *= rescale;
    } else {
      state.sum[n][2] *= rescale;
      state.sum[n][3] *= rescale;
    }
  }
  return shift;
}

/// Keys that single queries read: four at a time for each of the warp's rows g, then for each of its rows g + 8.
template <int kWidth, class T, class Walk>
__device__ inline void forward_rest(const ForwardTask<T>& a, const BlockPlace& at, const Walk& walk,
                                    ForwardState<T, kWidth>& state) {
  using W = Wide<T>;
  const AttentionSizes& s = a.s;
  const int t = cuda::lane_index() % 4;
  const std::int64_t kv_head = at.head / s.group();
  const W factor = static_cast<W>(s.scale * std::numbers::log2e);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = BlockPlace::own_row() + 8 * half;
    const T* query = ForwardMemory<T, kWidth>().queries() + row * AttentionTile<T, kWidth>::stride;
    const std::int64_t begin = walk.rest_begin(row);
    const int count = walk.rest_count(row), longest = cuda::warp_reduce<Most>(count);
    for (int n = 0; n < longest; n += 4) {
      W score[4], most = -cuda::infinity<W>();
#pragma unroll
      for (int i = 0; i < 4; ++i)
        score[i] = n + i < count
                       ? part_of_dot(query, a.k.at(at.b, kv_head, walk.rest_row(begin + n + i)), s.width, s.aligned)
                       : W(0);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        score[i] = cuda::warp_reduce<cuda::Plus, 4>(score[i]) * factor;
        if (n + i < count) most = cuda::larger(most, score[i]);
      }
      if (n >= count) continue;
      const W shift = raise(state, half, most);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (n + i >= count) break;
        const std::int64_t key = walk.rest_row(begin + n + i);
        W weight = exp2(score[i] - shift);
        if (t == i) state.total[half] += weight;
        if (s.dropout.p > 0)
          weight = is_kept(s, at.b, at.head, at.first + row, key, walk.rest_repeat(begin + n + i))
                       ? weight * kept_factor<W>(s)
                       : W(0);
        add_row(state.sum, half, weight, a.v.at(at.b, kv_head, key), s.value_width, s.aligned);
      }
    }
  }
}

// What a lane holds of a chunk's pairs has a bit each: bit 4n + 2·half + i for column 8n + 2t + i of row g + 8·half.
// The bits are made in loops that are not unrolled: one copy of the arithmetic with numbers of pairs, and no registers
// kept for it while weights are made.

/// Which pairs of a chunk take part.
template <int kTiles, class Walk>
__device__ inline std::uint32_t alive_bits(const Walk& walk, std::int64_t column, int count) {
  static_assert(kTiles <= 8);
  if (count == 8 * kTiles && walk.whole(column, count)) return ~std::uint32_t{0};
  const int row = BlockPlace::own_row(), t = cuda::lane_index() % 4;
  std::uint32_t bits = 0;
#pragma unroll 1
  for (int n = 0; n < kTiles; ++n)
    for (int i = 0; i < 2; ++i) {
      const int c = 8 * n + 2 * t + i;
      if (c >= count) break;
      bits |= std::uint32_t{walk.alive(row, column + c)} << (4 * n + i);
      bits |= std::uint32_t{walk.alive(row + 8, column + c)} << (4 * n + 2 + i);
    }
  return bits;
}

/// Which of the `alive` pairs dropout keeps. `pair(own row, other row)` is the query and the key of a pair.
template <int kTiles, class Walk, class Pair>
__device__ inline std::uint32_t kept_bits(const AttentionSizes& s, const Walk& walk, std::int64_t b, std::int64_t head,
                                          std::int64_t column, std::uint32_t alive, Pair pair) {
  if (s.dropout.p == 0) return alive;
  const int row = BlockPlace::own_row(), t = cuda::lane_index() % 4;
  std::uint32_t bits = 0;
#pragma unroll 1
  for (int e = 0; e < 4 * kTiles; ++e) {
    if ((alive >> e & 1) == 0) continue;
    const std::int64_t at = column + 8 * (e / 4) + 2 * t + e % 2;
    const QueryKey p = pair(row + e / 2 % 2 * 8, walk.row(at));
    bits |= std::uint32_t{is_kept(s, b, head, p.query, p.key, walk.repeat(at))} << e;
  }
  return bits;
}

/// From scores to weights for a chunk, and the state with them.
template <int kWidth, int kTiles, class T, class Walk>
__device__ inline void forward_weights(const ForwardTask<T>& a, const BlockPlace& at, const Walk& walk,
                                       std::int64_t column, int count, ForwardState<T, kWidth>& state,
                                       Wide<T> (&score)[kTiles][4]) {
  using W = Wide<T>;
  const W factor = static_cast<W>(a.s.scale * std::numbers::log2e), kept = kept_factor<W>(a.s);
  const std::uint32_t alive = alive_bits<kTiles>(walk, column, count);
  const std::uint32_t keep = kept_bits<kTiles>(a.s, walk, at.b, at.head, column, alive, [&](int own, std::int64_t key) {
    return QueryKey{at.first + own, key};
  });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    W most = -cuda::infinity<W>();
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        W& x = score[n][2 * half + i];
        x = (alive >> (4 * n + 2 * half + i) & 1) != 0 ? x * factor : -cuda::infinity<W>();
        most = cuda::larger(most, x);
      }
    const W shift = raise(state, half, cuda::warp_reduce<cuda::Largest, 4>(most));
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        W& x = score[n][2 * half + i];
        x = exp2(x - shift);
        state.total[half] += x;
        x = (keep >> (4 * n + 2 * half + i) & 1) != 0 ? x * kept : W(0);
      }
  }
}

/// Starts to bring a chunk of keys and values.
template <int kWidth, class T, class Walk>
__device__ inline void load_chunk(const AttentionSizes& s, const HeadRows<const T>& a, const HeadRows<const T>& b,
                                  std::int64_t batch, std::int64_t a_head, std::int64_t b_head, const Walk& walk,
                                  std::int64_t column, int rows, T* to_a, T* to_b) {
  const auto loader = [&](const HeadRows<const T>& from, std::int64_t head) {
    return [&, head](int c) -> const T* {
      return column + c < walk.end ? from.at(batch, head, walk.row(column + c)) : nullptr;
    };
  };
  load_rows<kWidth>(to_a, rows, s.width, s.aligned, loader(a, a_head));
  load_rows<kWidth>(to_b, rows, s.value_width, s.aligned, loader(b, b_head));
}

/// All chunks of a walk.
template <int kWidth, class T, class Walk>
__device__ inline void forward_chunks(const ForwardTask<T>& a, const BlockPlace& at, const Walk& walk, bool exact,
                                      ForwardState<T, kWidth>& state) {
  using Tile = AttentionTile<T, kWidth>;
  using Memory = ForwardMemory<T, kWidth>;
  const Memory memory;
  const AttentionSizes& s = a.s;
  const std::int64_t kv_head = at.head / s.group();
  const auto load = [&](std::int64_t column, int stage) {
    load_chunk<kWidth>(s, a.k, a.v, at.b, kv_head, kv_head, walk, column, Tile::chunk, memory.keys(stage),
                       memory.values(stage));
    cuda::copy_async_commit();
  };
  if (Tile::stages == 2 && walk.begin < walk.end) load(walk.begin, 0);
  int stage = 0;
  for (std::int64_t column = walk.begin; column < walk.end; column += Tile::chunk) {
    if constexpr (Tile::stages == 1) {
      cuda::sync_threads();  // everyone is done with the chunk before
      load(column, 0);
    }
    cuda::copy_async_wait<0>();
    cuda::sync_threads();
    if (Tile::stages == 2 && column + Tile::chunk < walk.end) load(column + Tile::chunk, 1 - stage);
    const int count = static_cast<int>(walk.end - column < Tile::chunk ? walk.end - column : Tile::chunk);
    Wide<T> score[Tile::chunk / 8][4];
    clear(score);
    multiply<Right::by_columns>(score, memory.queries() + cuda::warp_index() * 16 * Tile::stride, Tile::stride,
                                memory.keys(stage), Tile::stride, filled<T, kWidth>(s.width), count);
    forward_weights(a, at, walk, column, count, state, score);
    store_weights(score, memory.weights(), Memory::kWeightStride);
    if (exact) {
      const int first = cuda::warp_index() * 16;
      multiply_live(state.sum, memory.weights(), Memory::kWeightStride, memory.values(stage), Tile::stride, count,
                    s.value_width, [&](int row, int c) { return walk.alive(first + row, column + c); });
    } else {
      multiply<Right::by_terms>(state.sum, memory.weights(), Memory::kWeightStride, memory.values(stage), Tile::stride,
                                Tile::chunk, s.value_width);
    }
    if (Tile::stages == 2) stage = 1 - stage;
  }
  cuda::sync_threads();
}

template <int kWidth, class T>
__device__ inline void forward_result(const ForwardTask<T>& a, const BlockPlace& at,
                                      const ForwardState<T, kWidth>& state) {
  using W = Wide<T>;
  const AttentionSizes& s = a.s;
  W factor[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const W total = cuda::warp_reduce<cuda::Plus, 4>(state.total[half]);
    factor[half] = total != 0 ? 1 / total : W(0);
    const std::int64_t query = at.first + BlockPlace::own_row() + 8 * half;
    if (cuda::lane_index() % 4 == 0 && query < s.queries)
      a.log_sums[(at.b * s.heads + at.head) * s.queries + query] =
          total != 0 ? state.most[half] * static_cast<W>(std::numbers::ln2) + cuda::log(total) : cuda::infinity<W>();
  }
  store_sums(
      state.sum, s.value_width, s.aligned, [&](int half) { return factor[half]; },
      [&](int row) -> T* {
        const std::int64_t query = at.first + cuda::warp_index() * 16 + row;
        return query < s.queries ? a.y.at(at.b, at.head, query) : nullptr;
      });
}

/// One block for each tile of queries, query head and batch row.
template <int kWidth, class T, class Pairs>
__global__ void __launch_bounds__(AttentionTile<T, kWidth>::threads) attention_forward(ForwardTask<T> a, Pairs pairs) {
  using Tile = AttentionTile<T, kWidth>;
  const ForwardMemory<T, kWidth> memory;
  const AttentionSizes& s = a.s;
  // The last tiles have most to do where order is causal: they come first.
  const BlockPlace at{.b = cuda::block_index(2),
                      .head = cuda::block_index(1),
                      .first = (cuda::block_count() - 1 - cuda::block_index()) * Tile::rows};
  ForwardState<T, kWidth> state;
  for (int exact = 0; exact < 2; ++exact) {
    clear(state.sum);
    state.most[0] = state.most[1] = -cuda::infinity<Wide<T>>();
    state.total[0] = state.total[1] = 0;
    for (int set = 0; set < Pairs::kSets; ++set) {
      if (set > 0 && !a.q[set]) continue;
      const auto walk = pairs.walk(at.b, at.first, set);
      load_rows<kWidth>(memory.queries(), Tile::rows, s.width, s.aligned, [&](int row) -> const T* {
        return at.first + row < s.queries ? a.q[set].at(at.b, at.head, at.first + row) : nullptr;
      });
      cuda::copy_async_commit();
      if constexpr (Pairs::kHasRest) {
        cuda::copy_async_wait<0>();
        cuda::sync_threads();
        forward_rest(a, at, walk, state);
      }
      forward_chunks(a, at, walk, exact != 0, state);
    }
    if (block_agrees(all_finite(state.sum))) break;
  }
  forward_result(a, at, state);
}

/// Calls launch.template operator()<kWidth>() with the width of the kernels for these heads.
template <class Launch>
void with_head_width(const AttentionSizes& s, std::string_view name, Launch launch) {
  const int width = std::max(s.width, s.value_width);
  require(width <= 128, name, "heads of {} features are wider than a GPU's kernel takes (128); move them to cpu",
          width);
  if (width <= 64)
    launch.template operator()<64>();
  else
    launch.template operator()<128>();
}

template <class T, class Pairs>
void launch_forward(const cuda::Context& context, std::string_view name, const ForwardTask<T>& task,
                    const Pairs& pairs) {
  const AttentionSizes& s = task.s;
  with_head_width(s, name, [&]<int kWidth>() {
    using Tile = AttentionTile<T, kWidth>;
    cuda::launch_kernel(context, name, attention_forward<kWidth, T, Pairs>,
                        {.blocks = cuda::blocks_for(s.queries, Tile::rows),
                         .threads = Tile::threads,
                         .shared_bytes = ForwardMemory<T, kWidth>::bytes,
                         .blocks_y = s.heads,
                         .blocks_z = s.batch},
                        task, pairs);
  });
}

/// Whether the kernels may take rows of these tensors in pieces of 16 bytes.
template <class T>
bool rows_aligned(std::initializer_list<HeadRows<const T>> all, std::int64_t width, std::int64_t value_width) {
  constexpr std::int64_t P = cuda::kPack<T>;
  bool aligned = width % P == 0 && value_width % P == 0;
  for (const HeadRows<const T>& rows : all)
    aligned =
        aligned &&
        (!rows || (cuda::is_aligned(rows.data) && rows.batch % P == 0 && rows.head % P == 0 && rows.row % P == 0));
  return aligned;
}
/// A tensor that is written, for rows_aligned.
template <class T>
HeadRows<const T> constant(const HeadRows<T>& rows) {
  return {rows.data, rows.batch, rows.head, rows.row};
}

template <class Problem>
AttentionSizes attention_sizes(const Problem& p, bool aligned) {
  return {.batch = p.batch,
          .heads = p.heads,
          .kv_heads = p.kv_heads,
          .queries = p.queries,
          .keys = p.keys,
          .width = static_cast<int>(std::min<std::int64_t>(p.width, 1 << 20)),
          .value_width = static_cast<int>(std::min<std::int64_t>(p.value_width, 1 << 20)),
          .scale = p.scale,
          .dropout = p.dropout,
          .aligned = aligned};
}

}  // namespace sq::kernel
