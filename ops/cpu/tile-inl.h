// ops/cpu/tile-inl.h: matrix products of small tiles that lie in the caches, and how rows are brought there.
//
// A tile pairs kTile queries with up to kTile keys. Scores are kept transposed, S[key][query]: queries lie along the
// lanes of the vectors, so that sums and maxima over keys are plain vertical operations, and no product needs a
// transposed operand except the queries themselves, which are transposed once and used for many keys.

// clang-format off
#if defined(SUBQUAD_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_TILE_INL_H
#undef SUBQUAD_TILE_INL_H
#else
#define SUBQUAD_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/attention_layout.h"
#include "tensor/cpu/threads.h"
#include "tensor/storage.h"

#include <algorithm>
#include <cstdint>
#include <optional>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::int64_t kTile = 64;

template <class T>
constexpr std::int64_t lanes_per_vector() {
  return static_cast<std::int64_t>(hn::MaxLanes(hn::ScalableTag<T>()));
}
/// `width` rounded up to whole vectors.
template <class T>
constexpr std::int64_t padded(std::int64_t width) {
  return (width + lanes_per_vector<T>() - 1) / lanes_per_vector<T>() * lanes_per_vector<T>();
}

/// How many tasks of so many multiply-adds each make it worth waking a thread.
constexpr std::int64_t tasks_per_block(std::int64_t multiply_adds) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 18) / std::max<std::int64_t>(1, multiply_adds));
}

/// Memory for one task's tiles, handed out in pieces.
template <class T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count) : storage_(Storage::allocate(static_cast<std::size_t>(count) * sizeof(T), {})) {
    next_ = reinterpret_cast<T*>(storage_->data());
  }
  T* take(std::int64_t count) {
    T* piece = next_;
    next_ += count;
    return piece;
  }

 private:
  std::shared_ptr<Storage> storage_;
  T* next_;
};

/// What one block of rows of a product needs: columns in whole vectors, and the terms of the sums.
struct Extent {
  std::int64_t column_begin, column_end, k_begin, k_end;
};

/// C[rows × columns] = A · B with A(m,k) = a[m·a_row + k·a_k], B(k,n) = b[k·b_k + n], C(m,n) = c[m·c_row + n].
/// Columns come in whole vectors.
template <class T>
struct Product {
  const T* a;
  std::int64_t a_row, a_k;
  const T* b;
  std::int64_t b_k;
  T* c;
  std::int64_t c_row;
  const T* row_scale = nullptr;
};

/// What the sums start from: nothing, C, or C with row m multiplied by row_scale[m].
enum class Start { zero, keep, scaled };

/// A block of kRows × kVectors vectors of C stays in registers while k runs: kVectors loads of B and kRows broadcasts
/// of A feed kRows·kVectors fused multiply-adds.
template <Start kStart, int kRows, int kVectors, class T>
HWY_NOINLINE void product_block(const Product<T>& p, std::int64_t row, std::int64_t column, std::int64_t k_begin,
                                std::int64_t k_end) {
  const hn::ScalableTag<T> d;
  constexpr std::int64_t kLanes = lanes_per_vector<T>();
  T* c = p.c + row * p.c_row + column;
  hn::Vec<hn::ScalableTag<T>> sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) {
      if constexpr (kStart == Start::zero)
        sum[m][n] = hn::Zero(d);
      else
        sum[m][n] = hn::LoadU(d, c + m * p.c_row + n * kLanes);
      if constexpr (kStart == Start::scaled) sum[m][n] = hn::Mul(sum[m][n], hn::Set(d, p.row_scale[row + m]));
    }
  const T* a = p.a + row * p.a_row + k_begin * p.a_k;
  const T* b = p.b + column + k_begin * p.b_k;
  const std::int64_t a_row = p.a_row, a_k = p.a_k, b_k = p.b_k;
  // Every third row of A gets a pointer; the two after it are reached as base + stride and base + 2·stride.
  const T* group[(kRows + 2) / 3];
  for (int g = 0; g < (kRows + 2) / 3; ++g) group[g] = a + 3 * g * a_row;
  for (std::int64_t k = k_end - k_begin; k > 0; --k) {
    hn::Vec<hn::ScalableTag<T>> right[kVectors];
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) right[n] = hn::LoadU(d, b + n * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const auto left = hn::Set(d, group[m / 3][(m % 3) * a_row]);
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) sum[m][n] = hn::MulAdd(left, right[n], sum[m][n]);
    }
    b += b_k;
    for (int g = 0; g < (kRows + 2) / 3; ++g) group[g] += a_k;
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 4
    for (int n = 0; n < kVectors; ++n) hn::StoreU(sum[m][n], d, c + m * p.c_row + n * kLanes);
}

// With 32 registers a block is 6 × 4 vectors, with 16 it is 6 × 2.
constexpr int kBlockRows = 6;
constexpr int kBlockVectors = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 ? 2 : 4;

template <Start kStart, int kRows, class T>
HWY_INLINE void product_rows(const Product<T>& p, std::int64_t row, const Extent& e) {
  constexpr std::int64_t kLanes = lanes_per_vector<T>();
  std::int64_t column = e.column_begin;
  if constexpr (kBlockVectors == 4)
    for (; column + 4 * kLanes <= e.column_end; column += 4 * kLanes)
      product_block<kStart, kRows, 4>(p, row, column, e.k_begin, e.k_end);
  for (; column + 2 * kLanes <= e.column_end; column += 2 * kLanes)
    product_block<kStart, kRows, 2>(p, row, column, e.k_begin, e.k_end);
  if (column < e.column_end) product_block<kStart, kRows, 1>(p, row, column, e.k_begin, e.k_end);
}

/// The whole product. `extent(begin, end)` tells what the rows [begin, end) need; the rest of C is left alone.
template <Start kStart, class T, class ExtentOf>
HWY_INLINE void product(const Product<T>& p, std::int64_t row_begin, std::int64_t row_end, ExtentOf extent) {
  std::int64_t row = row_begin;
  for (; row + 6 <= row_end; row += 6) product_rows<kStart, 6>(p, row, extent(row, row + 6));
  if (row + 4 <= row_end) {
    product_rows<kStart, 4>(p, row, extent(row, row + 4));
    row += 4;
  }
  if (row + 2 <= row_end) {
    product_rows<kStart, 2>(p, row, extent(row, row + 2));
    row += 2;
  }
  if (row < row_end) product_rows<kStart, 1>(p, row, extent(row, row + 1));
}

/// Stores the 128-bit blocks of v `step` apart.
template <class D, class V, class T>
HWY_INLINE void store_blocks(D d, V v, std::int64_t step, T* HWY_RESTRICT out) {
  if constexpr (hn::MaxLanes(d) * sizeof(T) > 16) {
    const hn::Half<D> half;
    store_blocks(half, hn::LowerHalf(half, v), step, out);
    store_blocks(half, hn::UpperHalf(half, v), step,
                 out + static_cast<std::int64_t>(hn::MaxLanes(half) * sizeof(T) / 16) * step);
  } else {
    hn::StoreU(v, d, out);
  }
}

/// Transposes a block of 16 / sizeof(T) rows by the columns of one vector: interleaving rows within 128-bit blocks
/// leaves one column of the rows in every block.
template <class D, class T>
HWY_INLINE void transpose_block(D d, const T* in, std::int64_t stride, hn::Vec<D> scale, T* HWY_RESTRICT out) {
  constexpr auto kBlock = static_cast<std::int64_t>(16 / sizeof(T));
  const auto v0 = hn::Mul(scale, hn::LoadU(d, in)), v1 = hn::Mul(scale, hn::LoadU(d, in + stride));
  if constexpr (sizeof(T) == 8) {
    store_blocks(d, hn::InterleaveLower(d, v0, v1), kBlock * kTile, out);
    store_blocks(d, hn::InterleaveUpper(d, v0, v1), kBlock * kTile, out + kTile);
  } else {
    const auto v2 = hn::Mul(scale, hn::LoadU(d, in + 2 * stride)), v3 = hn::Mul(scale, hn::LoadU(d, in + 3 * stride));
    const auto a = hn::InterleaveLower(d, v0, v2), b = hn::InterleaveUpper(d, v0, v2);
    const auto e = hn::InterleaveLower(d, v1, v3), f = hn::InterleaveUpper(d, v1, v3);
    store_blocks(d, hn::InterleaveLower(d, a, e), kBlock * kTile, out);
    store_blocks(d, hn::InterleaveUpper(d, a, e), kBlock * kTile, out + kTile);
    store_blocks(d, hn::InterleaveLower(d, b, f), kBlock * kTile, out + 2 * kTile);
    store_blocks(d, hn::InterleaveUpper(d, b, f), kBlock * kTile, out + 3 * kTile);
  }
}

/// out[c][r] = factor · rows(r)_c for r < count, 0 for count <= r < kTile; c < width.
template <class T>
HWY_NOINLINE void transpose_tile(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t width, T factor,
                                 T* HWY_RESTRICT out) {
  const hn::ScalableTag<T> d;
  constexpr auto kBlock = static_cast<std::int64_t>(16 / sizeof(T));
  const auto scale = hn::Set(d, factor);
  const std::int64_t lanes = lanes_per_vector<T>();
  std::int64_t r = 0;
  for (; r + kBlock <= count; r += kBlock) {
    const T* in = rows + r * stride;
    std::int64_t c = 0;
    for (; c + lanes <= width; c += lanes) transpose_block(d, in + c, stride, scale, out + c * kTile + r);
    for (; c < width; ++c)
      for (std::int64_t i = 0; i < kBlock; ++i) out[c * kTile + r + i] = factor * in[i * stride + c];
  }
  if (r == kTile) return;
  for (std::int64_t c = 0; c < width; ++c) {
    for (std::int64_t i = r; i < count; ++i) out[c * kTile + i] = factor * rows[i * stride + c];
    for (std::int64_t i = std::max(r, count); i < kTile; ++i) out[c * kTile + i] = 0;
  }
}

/// Copies `count` rows of `width` into rows of whole vectors, padded with zeros.
template <class T>
HWY_INLINE void pack_rows(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t width,
                          T* HWY_RESTRICT out) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = lanes_per_vector<T>(), whole = padded<T>(width);
  for (std::int64_t r = 0; r < count; ++r, rows += stride, out += whole) {
    std::int64_t c = 0;
    for (; c + lanes <= width; c += lanes) hn::StoreU(hn::LoadU(d, rows + c), d, out + c);
    if (c == width) continue;
    hn::StoreU(hn::Zero(d), d, out + c);
    for (; c < width; ++c) out[c] = rows[c];
  }
}

/// Rows of whole vectors without gaps, as products want them: widely strided rows fall into few sets of the caches.
template <class T>
struct PackedRows {
  const T* data;
  std::int64_t stride;
};
/// `rows` itself where it is packed, else a copy in `buffer`.
template <class T>
HWY_INLINE PackedRows<T> packed_rows(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t width,
                                     T* buffer) {
  const std::int64_t whole = padded<T>(width);
  if (whole == width && stride == width) return {rows, stride};
  pack_rows(rows, stride, count, width, buffer);
  return {buffer, whole};
}

/// A packed copy of all rows of a tensor [batch, heads, count, width], for those that are read many times.
template <class T>
class PackedHeads {
 public:
  /// `rows` itself where it is packed.
  HeadRows<const T> pack(const HeadRows<const T>& rows, std::int64_t batch, std::int64_t heads, std::int64_t count,
                         std::int64_t width) {
    const std::int64_t whole = padded<T>(width);
    if (rows.row == width && width == whole) return rows;
    memory_.emplace(batch * heads * count * whole);
    T* copy = memory_->take(batch * heads * count * whole);
    const std::int64_t tiles = cpu::block_count(count, kTile);
    // Heads innermost: usually they lie side by side.
    cpu::parallel_for(batch * tiles, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = begin; n < end; ++n)
        for (std::int64_t t = n % tiles * kTile; t < std::min((n % tiles + 1) * kTile, count); ++t)
          for (std::int64_t h = 0; h < heads; ++h)
            pack_rows(rows.at(n / tiles, h, t), 0, 1, width, copy + ((n / tiles * heads + h) * count + t) * whole);
    });
    return {copy, heads * count * whole, count * whole, whole};
  }

 private:
  std::optional<Scratch<T>> memory_;
};

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_TILE_INL_H
