// ops/cuda/attention_tile.h: what the attention kernels are made of: rows brought into shared memory, and products of
// small matrices by one warp.
//
// A warp works on 16 rows. Sums of products lie in its lanes as tensor cores leave them (tensor/cuda/mma.h): with
// g = lane / 4 and t = lane % 4, a lane holds of each 8 columns
//     item 0, 1   row g, columns 2t, 2t+1        item 2, 3   row g + 8
// bf16 and f16 are multiplied by tensor cores; f32 and f64 by ordinary multiply-adds, laid out the same way, so that
// whatever stands between the products is one piece of code.
#pragma once

#include "ops/attention_layout.h"
#include "tensor/cuda/kernel.h"

#include <numbers>

namespace sq::kernel {

using cuda::Wide;

template <class T>
inline constexpr bool kOnTensorCores = sizeof(T) == 2;

/// Sizes of a kernel for heads of up to kWidth features. A block has `rows` rows of its own side, 16 for each warp, and
/// takes `chunk` rows of the other side at a time, `stages` chunks in shared memory.
template <class T, int kWidth>
struct AttentionTile {
  static constexpr int rows = sizeof(T) == 8 ? 32 : 64;
  static constexpr int threads = 2 * rows;
  static constexpr int warps = rows / 16;
  static constexpr int chunk = sizeof(T) == 8 || (sizeof(T) == 4 && kWidth > 64) ? 32 : 64;  // as registers allow
  static constexpr int stages = kOnTensorCores<T> ? 2 : 1;
  static constexpr int tiles = kWidth / 8;  // of sums
  /// From row to row in shared memory: 16 bytes more, so that 8 rows lie in different banks.
  static constexpr int stride = kWidth + 16 / static_cast<int>(sizeof(T));
  template <int kColumns>
  static constexpr int weight_stride = kColumns + 16 / static_cast<int>(sizeof(T));
};

/// Sizes of a call.
struct AttentionSizes {
  std::int64_t batch, heads, kv_heads, queries, keys;
  int width, value_width;
  double scale;
  WeightDropout dropout;
  bool aligned;  // every row begins at a multiple of 16 bytes and is made of whole such pieces

  __device__ std::int64_t group() const { return heads / kv_heads; }
};

__device__ inline float exp2(float x) { return ::exp2f(x); }
__device__ inline double exp2(double x) { return ::exp2(x); }

/// Features in shared memory are filled up with zeros to this many: all for tensor cores, else as few as packs allow.
template <class T, int kWidth>
__device__ inline int filled(int width) {
  constexpr int P = cuda::kPack<T>;
  return kOnTensorCores<T> ? kWidth : (width + P - 1) / P * P;
}

/// Starts to bring rows 0 … rows-1 to shared memory; row_of(r) is where row r lies, or null for zeros. What is not
/// aligned is there at once; for the rest wait for copy_async.
template <int kWidth, class T, class RowOf>
__device__ inline void load_rows(T* to, int rows, int width, bool aligned, RowOf row_of) {
  constexpr int P = cuda::kPack<T>, kStride = AttentionTile<T, kWidth>::stride;
  const int pieces = filled<T, kWidth>(width) / P;
  for (int i = cuda::thread_index(); i < rows * pieces; i += cuda::thread_count()) {
    const int row = i / pieces, column = i % pieces * P;
    const T* from = row_of(row);
    T* target = to + row * kStride + column;
    if (aligned && from != nullptr && column < width) {
      cuda::copy_async(target, from + column);
      continue;
    }
    cuda::Pack<T, P> pack;
#pragma unroll
    for (int n = 0; n < P; ++n)
      pack.items[n] = from != nullptr && column + n < width ? from[column + n] : cuda::narrow<T>(0);
    pack.store(target);
  }
}

/// How the right factor lies in shared memory: row n holds the factors of column n of the product, or row k those of
/// term k.
enum class Right { by_columns, by_terms };

/// sum += left · right on tensor cores.
template <class T>
__device__ inline void multiply_fragments(float (&sum)[4], const cuda::MatrixA<T>& left,
                                          const cuda::MatrixB<T>& right) {
  cuda::MatrixD d;
#pragma unroll
  for (int i = 0; i < 4; ++i) d.item[i] = sum[i];
  cuda::mma(d, left, right);
#pragma unroll
  for (int i = 0; i < 4; ++i) sum[i] = d.item[i];
}

template <class T>
__device__ inline void add_products(T (&sum)[4], T a0, T a1, T b0, T b1) {
  sum[0] += a0 * b0;
  sum[1] += a0 * b1;
  sum[2] += a1 * b0;
  sum[3] += a1 * b1;
}

/// sum[16, 8·kTiles] += a[16, depth] · b, by one warp. `depth` is a multiple of 16, for f32 and f64 of a pack; only the
/// first `columns` columns are needed.
template <Right kRight, int kTiles, class T>
__device__ inline void multiply(Wide<T> (&sum)[kTiles][4], const T* a, int a_stride, const T* b, int b_stride,
                                int depth, int columns) {
  const int lane = cuda::lane_index();
  if constexpr (kOnTensorCores<T>) {
    const int r = lane % 8, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
#pragma unroll 4
    for (int k = 0; k < depth; k += 16) {
      cuda::MatrixA<T> left;
      cuda::load_matrices(left.word, a + (r + low) * a_stride + k + high);
#pragma unroll
      for (int n = 0; n < kTiles; n += 2) {
        std::uint32_t word[4];
        if constexpr (kRight == Right::by_columns)
          cuda::load_matrices(word, b + (8 * n + r + high) * b_stride + k + low);
        else
          cuda::load_matrices_transposed(word, b + (k + r + low) * b_stride + 8 * n + high);
        multiply_fragments(sum[n], left, {word[0], word[1]});
        multiply_fragments(sum[n + 1], left, {word[2], word[3]});
      }
    }
  } else {
    constexpr int P = cuda::kPack<T>;
    using Terms = cuda::Pack<T, P>;
    const int g = lane / 4, t = lane % 4;
    for (int k = 0; k < depth; k += P) {
      const auto a0 = Terms::load(a + g * a_stride + k), a1 = Terms::load(a + (g + 8) * a_stride + k);
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        if (8 * n >= columns) break;
        if constexpr (kRight == Right::by_columns) {
          const T* row = b + (8 * n + 2 * t) * b_stride + k;
          const auto b0 = Terms::load(row), b1 = Terms::load(row + b_stride);
#pragma unroll
          for (int i = 0; i < P; ++i) add_products(sum[n], a0.items[i], a1.items[i], b0.items[i], b1.items[i]);
        } else {
#pragma unroll
          for (int i = 0; i < P; ++i) {
            const auto pair = cuda::Pack<T, 2>::load(b + (k + i) * b_stride + 8 * n + 2 * t);
            add_products(sum[n], a0.items[i], a1.items[i], pair.items[0], pair.items[1]);
          }
        }
      }
    }
  }
}

/// The same for factors by terms, with the terms that alive(row, k) admits and no others: a product gives pairs that
/// are not alive the weight 0, and 0 times a NaN or an infinity is a NaN. The bits of `multiply` for f32 and f64 where
/// all is finite.
template <int kTiles, class T, class Alive>
__device__ inline void multiply_live(Wide<T> (&sum)[kTiles][4], const T* a, int a_stride, const T* b, int b_stride,
                                     int depth, int columns, Alive alive) {
  const int g = cuda::lane_index() / 4, t = cuda::lane_index() % 4;
  for (int k = 0; k < depth; ++k) {
    const bool alive0 = alive(g, k), alive1 = alive(g + 8, k);
    if (!alive0 && !alive1) continue;
    const Wide<T> a0 = cuda::load(a + g * a_stride + k), a1 = cuda::load(a + (g + 8) * a_stride + k);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      if (8 * n >= columns) break;
      const T* at = b + k * b_stride + 8 * n + 2 * t;
      const Wide<T> b0 = cuda::load(at), b1 = cuda::load(at + 1);
      if (alive0) sum[n][0] += a0 * b0;
      if (alive0) sum[n][1] += a0 * b1;
      if (alive1) sum[n][2] += a1 * b0;
      if (alive1) sum[n][3] += a1 * b1;
    }
  }
}

template <int kTiles, class W>
__device__ inline void clear(W (&sum)[kTiles][4]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[n][i] = 0;
}

/// Writes a warp's 16 rows of weights to its part of shared memory, rounded to T, as a left factor.
template <int kTiles, class T>
__device__ inline void store_weights(const Wide<T> (&weight)[kTiles][4], T* to, int stride) {
  const int g = cuda::lane_index() / 4, t = cuda::lane_index() % 4;
  cuda::sync_warp();  // what was there is read
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      cuda::Pack<T, 2> pair;
      pair.items[0] = cuda::narrow<T>(weight[n][2 * half]);
      pair.items[1] = cuda::narrow<T>(weight[n][2 * half + 1]);
      pair.store(to + (g + 8 * half) * stride + 8 * n + 2 * t);
    }
  cuda::sync_warp();
}

/// Writes a warp's sums times factor(row) to row_of(row), row 0 … 15; null where there is none.
template <int kTiles, class W, class Factor, class RowOf>
__device__ inline void store_sums(const W (&sum)[kTiles][4], int width, bool aligned, Factor factor, RowOf row_of) {
  const int g = cuda::lane_index() / 4, t = cuda::lane_index() % 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    auto* row = row_of(g + 8 * half);
    if (row == nullptr) continue;
    using T = std::remove_reference_t<decltype(*row)>;
    const W by = factor(half);
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int column = 8 * n + 2 * t;
      // A factor of 0 stands for "nothing": not 0 times what may be a NaN.
      const W x = by == 0 ? W(0) : sum[n][2 * half] * by, y = by == 0 ? W(0) : sum[n][2 * half + 1] * by;
      if (aligned && column < width) {
        cuda::Pack<T, 2> pair;
        pair.items[0] = cuda::narrow<T>(x);
        pair.items[1] = cuda::narrow<T>(y);
        pair.store(row + column);
      } else {
        if (column < width) cuda::store(row + column, x);
        if (column + 1 < width) cuda::store(row + column + 1, y);
      }
    }
  }
}

template <int kTiles, class W>
__device__ inline bool all_finite(const W (&sum)[kTiles][4]) {
  W zero = 0;
#pragma unroll
  for (int n = 0; n < kTiles; ++n)
#pragma unroll
    for (int i = 0; i < 4; ++i) zero += sum[n][i] * 0;
  return zero == 0;
}
/// For the whole block.
__device__ inline bool block_agrees(bool yes) { return cuda::block_sum(yes ? 0.0f : 1.0f) == 0; }

/// Whether dropout keeps the weight of a pair. `head` counts query heads.
__device__ inline bool is_kept(const AttentionSizes& s, std::int64_t b, std::int64_t head, std::int64_t query,
                               std::int64_t key, std::int64_t repeat) {
  const std::int64_t number = (((repeat * s.batch + b) * s.heads + head) * s.queries + query) * s.keys + key;
  const float u = cuda::random_uniform(s.dropout.seed, s.dropout.stream, static_cast<std::uint64_t>(number));
  return u >= static_cast<float>(s.dropout.p);
}
/// What a weight is multiplied by when it is kept.
template <class W>
__device__ inline W kept_factor(const AttentionSizes& s) {
  return static_cast<W>(1 / (1 - s.dropout.p));
}

struct QueryKey {
  std::int64_t query, key;
};

// Rows that few share are taken by the four lanes of a row together, where they lie.

/// This lane's part of the product of a row in shared memory with one in device memory.
template <class T>
__device__ inline Wide<T> part_of_dot(const T* own, const T* other, int width, bool aligned) {
  constexpr int P = cuda::kPack<T>;
  const int t = cuda::lane_index() % 4;
  Wide<T> sum = 0;
  if (aligned) {
    for (int c = t * P; c < width; c += 4 * P) {
      const auto x = cuda::Pack<T, P>::load(own + c), y = cuda::Pack<T, P>::load(other + c);
#pragma unroll
      for (int i = 0; i < P; ++i) sum += cuda::widen(x.items[i]) * cuda::widen(y.items[i]);
    }
  } else {
    for (int c = t; c < width; c += 4) sum += cuda::load(own + c) * cuda::load(other + c);
  }
  return sum;
}

/// Adds weight · row to this lane's columns of row g + 8·half.
template <int kTiles, class T>
__device__ inline void add_row(Wide<T> (&sum)[kTiles][4], int half, Wide<T> weight, const T* row, int width,
                               bool aligned) {
  const int t = cuda::lane_index() % 4;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    const int column = 8 * n + 2 * t;
    if (8 * n >= width) break;
    Wide<T> x = 0, y = 0;
    if (aligned && column < width) {  // then the width is even
      const auto pair = cuda::Pack<T, 2>::load(row + column);
      x = cuda::widen(pair.items[0]);
      y = cuda::widen(pair.items[1]);
    } else {
      if (column < width) x = cuda::load(row + column);
      if (column + 1 < width) y = cuda::load(row + column + 1);
    }
    if (half == 0) {
      sum[n][0] += weight * x;
      sum[n][1] += weight * y;
    } else {
      sum[n][2] += weight * x;
      sum[n][3] += weight * y;
    }
  }
}

struct Most {
  template <class N>
  __device__ N operator()(N a, N b) const {
    return a > b ? a : b;
  }
};

}  // namespace sq::kernel
