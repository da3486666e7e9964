// ops/cuda/row.h: rows of a matrix, each shared by some threads of a block that read it from memory once.
//
// A row whose elements lie in whole packs of 16 bytes is held in registers between the passes over it (up to four packs
// a thread, which bounds its length); any other row is read again, from the cache, and element by element.
#pragma once

#include "tensor/cuda/kernel.h"

namespace sq::kernel {

constexpr int kRowThreads = 256;  // of a block

/// a / b for a, b >= 0; in 32 bits, several times faster, where they suffice.
__device__ inline std::int64_t quotient(std::int64_t a, std::int64_t b) {
  return a <= 0xffffffffll && b <= 0xffffffffll ? static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b) : a / b;
}

/// Some neighbouring elements in the type computed in.
template <class T, int P>
struct Values {
  cuda::Wide<T> at[P];

  __device__ static Values load(const T* from) {
    Values result;
    const auto pack = cuda::Pack<T, P>::load(from);
#pragma unroll
    for (int i = 0; i < P; ++i) result.at[i] = cuda::widen(pack.items[i]);
    return result;
  }
  __device__ void store(T* to) const {
    cuda::Pack<T, P> pack;
#pragma unroll
    for (int i = 0; i < P; ++i) pack.items[i] = cuda::narrow<T>(at[i]);
    pack.store(to);
  }
  __device__ cuda::Wide<T> operator[](int i) const { return at[i]; }
  __device__ cuda::Wide<T>& operator[](int i) { return at[i]; }
};

/// `Width` neighbouring threads share a row and hold up to `Packs` packs of it each; with 0 they hold nothing.
template <int Width, int Packs>
struct Spread {
  static constexpr int kWidth = Width, kPacks = Packs;
  static constexpr int kGroups = kRowThreads / Width;  // rows that a block works on at a time
  static constexpr bool kHeld = Packs > 0;
  /// Elements that travel together.
  template <class T>
  static constexpr int pack = kHeld ? cuda::kPack<T> : 1;
  /// Places in which a thread may keep a sum for each of its columns.
  static constexpr int kSlots = kHeld ? Packs : 1;

  __device__ static int group() { return cuda::thread_index() / Width; }
  __device__ static int place() { return cuda::thread_index() % Width; }

  /// One number out of those of the row's threads.
  template <class Combine, class W>
  __device__ static W reduce(W value) {
    if constexpr (Width <= cuda::kWarp)
      return cuda::warp_reduce<Combine, Width>(value);
    else
      return cuda::block_reduce<Combine>(value);
  }
  template <class W>
  __device__ static W sum(W value) {
    return reduce<cuda::Plus>(value);
  }
};

/// This thread's elements of N rows of the same length that are read together.
template <class T, class S, int N>
class RowParts {
 public:
  static constexpr int P = S::template pack<T>;
  using V = Values<T, P>;

  __device__ RowParts(const T* const (&rows)[N], std::int64_t columns) : columns_(columns) {
#pragma unroll
    for (int n = 0; n < N; ++n) rows_[n] = rows[n];
    if constexpr (S::kHeld) {
#pragma unroll
      for (int slot = 0; slot < S::kPacks; ++slot)
        if (column(slot) < columns)
#pragma unroll
          for (int n = 0; n < N; ++n) packs_[n][slot] = cuda::Pack<T, P>::load(rows[n] + column(slot));
    }
  }

  /// f(column, slot, values of each row) for each of this thread's packs.
  template <class F>
  __device__ void each(F&& f) const {
    if constexpr (S::kHeld) {
#pragma unroll
      for (int slot = 0; slot < S::kPacks; ++slot) {
        if (column(slot) >= columns_) continue;
        V values[N];
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int i = 0; i < P; ++i) values[n][i] = cuda::widen(packs_[n][slot].items[i]);
        f(column(slot), slot, values);
      }
    } else {
      for (std::int64_t c = S::place(); c < columns_; c += S::kWidth) {
        V values[N];
#pragma unroll
        for (int n = 0; n < N; ++n) values[n] = V::load(rows_[n] + c);
        f(c, 0, values);
      }
    }
  }

 private:
  __device__ static std::int64_t column(int slot) { return (std::int64_t{slot} * S::kWidth + S::place()) * P; }

  std::int64_t columns_;
  const T* rows_[N];
  cuda::Pack<T, P> packs_[N][S::kSlots];
};

/// Chooses the spread for rows of `columns` elements and calls f.template operator()<Spread<…>>(). `aligned`: every row
/// of every operand begins at a multiple of 16 bytes.
template <class T, class F>
void visit_spread(std::int64_t columns, bool aligned, F&& f) {
  constexpr int P = cuda::kPack<T>, kShort = 16;
  const std::int64_t packs = columns / P;
  if (!aligned || columns % P != 0 || packs > 4 * kRowThreads) {
    if (columns <= 1024)
      f.template operator()<Spread<cuda::kWarp, 0>>();
    else
      f.template operator()<Spread<kRowThreads, 0>>();
  } else if (packs <= kShort) {
    f.template operator()<Spread<kShort, 1>>();
  } else if (packs <= 4 * cuda::kWarp) {
    f.template operator()<Spread<cuda::kWarp, 4>>();
  } else {
    f.template operator()<Spread<kRowThreads, 4>>();
  }
}

// Sums over rows, in two steps that are the same in every run: each block adds up the rows it takes, then its sums and
// those of the other blocks are added in order.

/// Blocks that share `rows` rows, `at_once` at a time: each gets some rows, and there are enough blocks to fill a GPU.
inline std::int64_t row_blocks(std::int64_t rows, int at_once) {
  constexpr std::int64_t kMost = 528;
  return std::min(kMost, cuda::blocks_for(rows, std::int64_t{at_once} * 4));
}

/// sums[block, column] ← what the groups of this block have added up, in order of groups. All threads of the block
/// call; `own(slot, i)` is this thread's sum for element i of its pack in that slot. With a spread that holds nothing
/// there is nothing to do: there are no such sums.
template <class S, class T, class Own>
__device__ inline void add_groups(std::int64_t columns, cuda::Wide<T>* sums, Own&& own) {
  static_assert(S::kHeld);
  constexpr int P = cuda::kPack<T>;
  cuda::Wide<T>* const target = sums + cuda::block_index() * columns;
  for (int group = 0; group < S::kGroups; ++group) {
    if (group > 0) cuda::sync_threads();
    if (S::group() != group) continue;
#pragma unroll
    for (int slot = 0; slot < S::kPacks; ++slot) {
      const std::int64_t c = (std::int64_t{slot} * S::kWidth + S::place()) * P;
      if (c >= columns) continue;
#pragma unroll
      for (int i = 0; i < P; ++i) target[c + i] = group > 0 ? target[c + i] + own(slot, i) : own(slot, i);
    }
  }
}

/// sums[part, column] ← Σ term(row, column) over the rows of each part, a thread a column: for rows that nobody holds.
template <class W, class Term>
__global__ void __launch_bounds__(kRowThreads)
    add_columns(std::int64_t rows, std::int64_t columns, W* sums, Term term) {
  const std::int64_t c = cuda::global_index(), part = cuda::block_index(1), parts = cuda::block_count(1);
  if (c >= columns) return;
  W sum = 0;
  for (std::int64_t row = part; row < rows; row += parts) sum += term(row, c);
  sums[part * columns + c] = sum;
}
template <class W, class Term>
void launch_add_columns(const cuda::Context& context, std::string_view name, std::int64_t rows, std::int64_t columns,
                        std::int64_t parts, W* sums, const Term& term) {
  cuda::launch_kernel(
      context, name, add_columns<W, Term>,
      {.blocks = cuda::blocks_for(columns, kRowThreads), .threads = kRowThreads, .shared_bytes = 0, .blocks_y = parts},
      rows, columns, sums, term);
}

/// total[column] ← Σ_part sums[part, column]: a block takes 32 columns, each of its warps every eighth part.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    add_parts(std::int64_t parts, std::int64_t columns, const cuda::Wide<T>* sums, T* total) {
  using W = cuda::Wide<T>;
  struct Tag;
  W* const partial = cuda::static_shared<W, kRowThreads, Tag>();
  const std::int64_t c = cuda::block_index() * cuda::kWarp + cuda::lane_index();
  W sum = 0;
  if (c < columns)
    for (std::int64_t part = cuda::warp_index(); part < parts; part += cuda::warp_count())
      sum += sums[part * columns + c];
  partial[cuda::thread_index()] = sum;
  cuda::sync_threads();
  if (cuda::warp_index() > 0 || c >= columns) return;
  for (int warp = 1; warp < cuda::warp_count(); ++warp) sum += partial[warp * cuda::kWarp + cuda::lane_index()];
  total[c] = cuda::narrow<T>(sum);
}
template <class T>
void launch_add_parts(const cuda::Context& context, std::string_view name, std::int64_t parts, std::int64_t columns,
                      const cuda::Wide<T>* sums, T* total) {
  cuda::launch_kernel(context, name, add_parts<T>,
                      {.blocks = cuda::blocks_for(columns, cuda::kWarp), .threads = kRowThreads}, parts, columns, sums,
                      total);
}

}  // namespace sq::kernel
