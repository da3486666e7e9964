// ops/cpu/softmax_tile-inl.h: which pairs of a tile are alive, and the steps between the products: the online softmax
// of the forward pass and the slopes of the backward pass.

// clang-format off
#if defined(SUBQUAD_SOFTMAX_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_SOFTMAX_TILE_INL_H
#undef SUBQUAD_SOFTMAX_TILE_INL_H
#else
#define SUBQUAD_SOFTMAX_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/exp-inl.h"
#include "ops/cpu/tile-inl.h"

#include <array>
#include <bit>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// Which pairs (row, lane) of a tile are alive. A tile has up to kTile rows and kTile lanes; bit r of lanes[c] stands
/// for the pair of row c and lane r.
struct PairMask {
  std::int64_t rows = 0, lanes = 0;  // extent of the tile
  bool full = true;                  // all pairs within it are alive; `bits` and the hulls are not set
  std::array<std::uint64_t, kTile> bits;
  std::array<std::uint8_t, kTile> first_row, end_row;  // of each lane: its live rows lie within [first_row, end_row)

  static std::uint64_t low_bits(std::int64_t count) {
    return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
  }

  bool alive(std::int64_t row, std::int64_t lane) const {
    return full || (bits[static_cast<std::size_t>(row)] >> lane & 1) != 0;
  }

  /// To be called once the bits stand.
  void find_hulls() {
    const std::uint64_t all = low_bits(lanes);
    full = std::all_of(bits.begin(), bits.begin() + rows, [&](std::uint64_t b) { return (b & all) == all; });
    if (full) return;
    first_row.fill(static_cast<std::uint8_t>(rows));
    end_row.fill(0);
    std::uint64_t seen = 0;
    for (std::int64_t c = 0; c < rows; ++c) {
      const std::uint64_t now = bits[static_cast<std::size_t>(c)];
      for (std::uint64_t fresh = now & ~seen; fresh != 0; fresh &= fresh - 1)
        first_row[static_cast<std::size_t>(std::countr_zero(fresh))] = static_cast<std::uint8_t>(c);
      seen |= now;
    }
    seen = 0;
    for (std::int64_t c = rows; c-- > 0;) {
      const std::uint64_t now = bits[static_cast<std::size_t>(c)];
      for (std::uint64_t fresh = now & ~seen; fresh != 0; fresh &= fresh - 1)
        end_row[static_cast<std::size_t>(std::countr_zero(fresh))] = static_cast<std::uint8_t>(c + 1);
      seen |= now;
    }
  }

  struct Range {
    std::int64_t begin, end;
  };
  /// The lanes that are alive with any of the rows [begin, end).
  Range lanes_of_rows(std::int64_t begin, std::int64_t end) const {
    if (full) return {0, lanes};
    std::uint64_t any = 0;
    for (std::int64_t c = begin; c < end; ++c) any |= bits[static_cast<std::size_t>(c)];
    return any == 0 ? Range{0, 0} : Range{std::countr_zero(any), 64 - std::countl_zero(any)};
  }
  /// The rows that are alive with any of the lanes [begin, end).
  Range rows_of_lanes(std::int64_t begin, std::int64_t end) const {
    if (full) return {0, rows};
    Range range{rows, 0};
    for (std::int64_t r = begin; r < std::min(end, lanes); ++r) {
      range.begin = std::min<std::int64_t>(range.begin, first_row[static_cast<std::size_t>(r)]);
      range.end = std::max<std::int64_t>(range.end, end_row[static_cast<std::size_t>(r)]);
    }
    return {std::min(range.begin, range.end), range.end};
  }

  /// Extents of a product that makes the pairs of the tile: rows times lanes, `depth` terms each.
  template <class T>
  auto pairs(std::int64_t depth) const {
    return [this, depth](std::int64_t begin, std::int64_t end) {
      const Range range = lanes_of_rows(begin, end);
      return Extent{range.begin / lanes_per_vector<T>() * lanes_per_vector<T>(), padded<T>(range.end), 0, depth};
    };
  }
  /// Extents of a product that sums over the rows, for each lane `columns` sums.
  auto sums_over_rows(std::int64_t columns) const {
    return [this, columns](std::int64_t begin, std::int64_t end) {
      const Range range = rows_of_lanes(begin, end);
      return Extent{0, columns, range.begin, range.end};
    };
  }
  /// Extents of a product that sums over the lanes, for each row `columns` sums.
  auto sums_over_lanes(std::int64_t columns) const {
    return [this, columns](std::int64_t begin, std::int64_t end) {
      const Range range = lanes_of_rows(begin, end);
      return Extent{0, columns, range.begin, range.end};
    };
  }
};

/// The bits of the lanes [r, r + lanes of a vector) as a vector mask.
template <class D>
HWY_INLINE hn::Mask<D> lane_mask(D d, std::uint64_t bits, std::int64_t r) {
  const std::uint64_t shifted = bits >> r;
  std::uint8_t bytes[8];
  hwy::CopyBytes<8>(&shifted, bytes);
  return hn::LoadMaskBits(d, bytes);
}

/// Running maximum m, sum l, and the factor α by which earlier results shrink, for each lane.
template <class T>
struct SoftmaxState {
  T *maximum, *sum, *rescale;
};

/// The online softmax for the lanes [r, r + lanes of a vector): with the tile's scores S (already times log2 e)
///     m' = max(m, max_rows S),  α = 2^(m - m'),  P = 2^(S - m'),  l' = α l + Σ_rows P
/// S becomes P, times `keep` where weights are dropped; pairs that are not alive become 0.
template <bool kMasked, bool kDropout, class T>
HWY_INLINE void softmax_lanes(T* HWY_RESTRICT scores, const T* HWY_RESTRICT keep, const PairMask& mask,
                              const SoftmaxState<T>& state, std::int64_t r) {
  const hn::ScalableTag<T> d;
  const auto absent = hn::Set(d, -std::numeric_limits<T>::infinity());
  PairMask::Range rows{0, mask.rows};
  if constexpr (kMasked) rows = mask.rows_of_lanes(r, r + lanes_per_vector<T>());
  T* s = scores + r;
  const auto score = [&](std::int64_t c) HWY_ATTR {
    const auto value = hn::Load(d, s + c * kTile);
    if constexpr (!kMasked) return value;
    return hn::IfThenElse(lane_mask(d, mask.bits[static_cast<std::size_t>(c)], r), value, absent);
  };
  const auto before = hn::Load(d, state.maximum + r);
  auto m0 = before, m1 = before, m2 = before, m3 = before;
  std::int64_t c = rows.begin;
  for (; c + 4 <= rows.end; c += 4) {
    m0 = hn::Max(m0, score(c));
    m1 = hn::Max(m1, score(c + 1));
    m2 = hn::Max(m2, score(c + 2));
    m3 = hn::Max(m3, score(c + 3));
  }
  for (; c < rows.end; ++c) m0 = hn::Max(m0, score(c));
  const auto most = hn::Max(hn::Max(m0, m1), hn::Max(m2, m3));
  // Where no pair has been alive so far, subtracting -∞ would give NaN; subtract 0 instead.
  const auto shift = hn::IfThenZeroElse(hn::Eq(most, absent), most);
  const auto rescale = exp2(d, hn::Sub(before, shift));
  const auto weight = [&](std::int64_t row) HWY_ATTR {
    auto w = exp2(d, hn::Sub(hn::Load(d, s + row * kTile), shift));
    if constexpr (kMasked) w = hn::IfThenElseZero(lane_mask(d, mask.bits[static_cast<std::size_t>(row)], r), w);
    hn::Store(kDropout ? hn::Mul(w, hn::Load(d, keep + r + row * kTile)) : w, d, s + row * kTile);
    return w;
  };
  auto sum0 = hn::Mul(hn::Load(d, state.sum + r), rescale), sum1 = hn::Zero(d);
  for (c = rows.begin; c + 2 <= rows.end; c += 2) {
    sum0 = hn::Add(sum0, weight(c));
    sum1 = hn::Add(sum1, weight(c + 1));
  }
  if (c < rows.end) sum0 = hn::Add(sum0, weight(c));
  for (c = 0; c < rows.begin; ++c) hn::Store(hn::Zero(d), d, s + c * kTile);
  for (c = rows.end; c < mask.rows; ++c) hn::Store(hn::Zero(d), d, s + c * kTile);
  hn::Store(most, d, state.maximum + r);
  hn::Store(hn::Add(sum0, sum1), d, state.sum + r);
  hn::Store(rescale, d, state.rescale + r);
}

/// The online softmax of a whole tile. `keep` (kTile × kTile) is null without dropout.
template <class T>
HWY_NOINLINE void softmax_tile(T* scores, const T* keep, const PairMask& mask, const SoftmaxState<T>& state) {
  for (std::int64_t r = 0; r < mask.lanes; r += lanes_per_vector<T>()) {
    if (mask.full && !keep)
      softmax_lanes<false, false>(scores, keep, mask, state, r);
    else if (mask.full)
      softmax_lanes<false, true>(scores, keep, mask, state, r);
    else if (!keep)
      softmax_lanes<true, false>(scores, keep, mask, state, r);
    else
      softmax_lanes<true, true>(scores, keep, mask, state, r);
  }
}

/// Whether queries lie along the lanes or along the rows of a tile.
enum class Queries { in_lanes, in_rows };

/// Backward, for the lanes [r, r + lanes of a vector): with the scores S, the slopes dP, and of each query the log-sum
/// L (times log2 e) and δ
///     P = 2^(S - L),  dS = P ∘ (dP ∘ keep - δ)
/// P ∘ keep takes the place of S and dS that of dP; pairs that are not alive become 0.
template <Queries kQueries, bool kMasked, bool kDropout, class T>
HWY_INLINE void slopes_lanes(T* HWY_RESTRICT scores, T* HWY_RESTRICT slopes, const T* HWY_RESTRICT keep,
                             const PairMask& mask, const T* HWY_RESTRICT log_sums, const T* HWY_RESTRICT delta,
                             std::int64_t r) {
  const hn::ScalableTag<T> d;
  PairMask::Range rows{0, mask.rows};
  if constexpr (kMasked) rows = mask.rows_of_lanes(r, r + lanes_per_vector<T>());
  const auto lane_log_sum = kQueries == Queries::in_lanes ? hn::Load(d, log_sums + r) : hn::Zero(d);
  const auto lane_delta = kQueries == Queries::in_lanes ? hn::Load(d, delta + r) : hn::Zero(d);
  for (std::int64_t c = rows.begin; c < rows.end; ++c) {
    T *s = scores + r + c * kTile, *ds = slopes + r + c * kTile;
    const auto log_sum = kQueries == Queries::in_lanes ? lane_log_sum : hn::Set(d, log_sums[c]);
    const auto delta_here = kQueries == Queries::in_lanes ? lane_delta : hn::Set(d, delta[c]);
    auto weight = exp2(d, hn::Sub(hn::Load(d, s), log_sum));
    auto slope = hn::Load(d, ds);
    if constexpr (kDropout) slope = hn::Mul(slope, hn::Load(d, keep + r + c * kTile));
    slope = hn::Mul(weight, hn::Sub(slope, delta_here));
    if constexpr (kDropout) weight = hn::Mul(weight, hn::Load(d, keep + r + c * kTile));
    if constexpr (kMasked) {
      const auto alive = lane_mask(d, mask.bits[static_cast<std::size_t>(c)], r);
      weight = hn::IfThenElseZero(alive, weight);
      slope = hn::IfThenElseZero(alive, slope);
    }
    hn::Store(weight, d, s);
    hn::Store(slope, d, ds);
  }
  const auto clear = [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t c = begin; c < end; ++c) {
      hn::Store(hn::Zero(d), d, scores + r + c * kTile);
      hn::Store(hn::Zero(d), d, slopes + r + c * kTile);
    }
  };
  clear(0, rows.begin);
  clear(rows.end, mask.rows);
}

/// The slopes of a whole tile. `keep` is null without dropout.
template <Queries kQueries, class T>
HWY_NOINLINE void slopes_tile(T* scores, T* slopes, const T* keep, const PairMask& mask, const T* log_sums,
                              const T* delta) {
  for (std::int64_t r = 0; r < mask.lanes; r += lanes_per_vector<T>()) {
    if (mask.full && !keep)
      slopes_lanes<kQueries, false, false>(scores, slopes, keep, mask, log_sums, delta, r);
    else if (mask.full)
      slopes_lanes<kQueries, false, true>(scores, slopes, keep, mask, log_sums, delta, r);
    else if (!keep)
      slopes_lanes<kQueries, true, false>(scores, slopes, keep, mask, log_sums, delta, r);
    else
      slopes_lanes<kQueries, true, true>(scores, slopes, keep, mask, log_sums, delta, r);
  }
}

/// Whether rows of whole vectors hold neither NaN nor infinity: only those give NaN when multiplied by 0.
template <class T>
HWY_NOINLINE bool rows_finite(const T* rows, std::int64_t stride, std::int64_t count, std::int64_t columns) {
  const hn::ScalableTag<T> d;
  const auto zero = hn::Zero(d);
  auto sum0 = zero, sum1 = zero, sum2 = zero, sum3 = zero;
  for (std::int64_t column = 0; column < columns; column += lanes_per_vector<T>()) {
    const T* at = rows + column;
    std::int64_t r = 0;
    for (; r + 4 <= count; r += 4, at += 4 * stride) {
      sum0 = hn::MulAdd(zero, hn::LoadU(d, at), sum0);
      sum1 = hn::MulAdd(zero, hn::LoadU(d, at + stride), sum1);
      sum2 = hn::MulAdd(zero, hn::LoadU(d, at + 2 * stride), sum2);
      sum3 = hn::MulAdd(zero, hn::LoadU(d, at + 3 * stride), sum3);
    }
    for (; r < count; ++r, at += stride) sum0 = hn::MulAdd(zero, hn::LoadU(d, at), sum0);
  }
  return hn::AllTrue(d, hn::Eq(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)), zero));
}

/// The product row by row, with the terms (m,k) that are alive and no others; the bits of `product` where all is
/// finite.
template <Start kStart, class T, class Alive>
HWY_NOINLINE void product_of_live(const Product<T>& p, std::int64_t rows, std::int64_t terms, std::int64_t columns,
                                  Alive alive) {
  const hn::ScalableTag<T> d;
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t column = 0; column < columns; column += lanes_per_vector<T>()) {
      T* c = p.c + m * p.c_row + column;
      auto sum = kStart == Start::zero ? hn::Zero(d) : hn::LoadU(d, c);
      if constexpr (kStart == Start::scaled) sum = hn::Mul(sum, hn::Set(d, p.row_scale[m]));
      for (std::int64_t k = 0; k < terms; ++k)
        if (alive(m, k))
          sum = hn::MulAdd(hn::Set(d, p.a[m * p.a_row + k * p.a_k]), hn::LoadU(d, p.b + k * p.b_k + column), sum);
      hn::StoreU(sum, d, c);
    }
}

/// For every lane of a tile, the sum over its live rows. `product` works on blocks of lanes and gives weight 0 to pairs
/// that are not alive; a NaN or an infinity in a row of B would reach lanes that must not see it, so such rows, which
/// training stops at anyway, take the slow way.
template <Start kStart, class T>
HWY_INLINE void sum_over_rows(const Product<T>& p, const PairMask& mask, std::int64_t columns) {
  if (mask.full || rows_finite(p.b, p.b_k, mask.rows, columns)) [[likely]]
    product<kStart>(p, 0, mask.lanes, mask.sums_over_rows(columns));
  else
    product_of_live<kStart>(p, mask.lanes, mask.rows, columns,
                            [&](std::int64_t lane, std::int64_t row) { return mask.alive(row, lane); });
}

/// The same for every row of a tile over its live lanes.
template <Start kStart, class T>
HWY_INLINE void sum_over_lanes(const Product<T>& p, const PairMask& mask, std::int64_t columns) {
  if (mask.full || rows_finite(p.b, p.b_k, mask.lanes, columns)) [[likely]]
    product<kStart>(p, 0, mask.rows, mask.sums_over_lanes(columns));
  else
    product_of_live<kStart>(p, mask.rows, mask.lanes, columns,
                            [&](std::int64_t row, std::int64_t lane) { return mask.alive(row, lane); });
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_SOFTMAX_TILE_INL_H
