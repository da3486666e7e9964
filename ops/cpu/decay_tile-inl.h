// ops/cpu/decay_tile-inl.h: how a chunk of positions forgets. With b_i = g_first + … + g_i and Γ_ij = e^(b_i - b_j):
// rows times e^(b_i) and e^(b_C - b_i), pairs times Γ, and their gradients.

// clang-format off
#if defined(SUBQUAD_DECAY_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_DECAY_TILE_INL_H
#undef SUBQUAD_DECAY_TILE_INL_H
#else
#define SUBQUAD_DECAY_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/linear_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// rows_i ← factor(i) rows_i for `count` rows of `stride` elements, whole vectors.
template <class T, class Factor>
HWY_INLINE void scale_tile(T* HWY_RESTRICT rows, std::int64_t stride, std::int64_t count, Factor factor) {
  const hn::ScalableTag<T> d;
  const std::int64_t lanes = lanes_per_vector<T>();
  for (std::int64_t i = 0; i < count; ++i, rows += stride) {
    const auto f = hn::Set(d, factor(i));
    for (std::int64_t c = 0; c < stride; c += lanes) hn::StoreU(hn::Mul(f, hn::LoadU(d, rows + c)), d, rows + c);
  }
}

/// The decay of one chunk. Tiles of K columns have rows of padded(K) elements.
template <class T>
class ChunkDecay {
 public:
  ChunkDecay(const LinearAttentionProblem& p, const LinearChunk<T>& chunk)
      : chunk_(chunk), mask_(chunk.mask()), width_(p.width), row_(padded<T>(p.width)) {
    if (!chunk.decays) return;
    const hn::ScalableTag<T> d;
    const auto last = hn::Set(d, chunk.decay[chunk.count - 1]);
    for (std::int64_t i = 0; i < kTile; i += lanes_per_vector<T>()) {
      const auto b = hn::LoadU(d, chunk.decay + i);
      hn::StoreU(exp(d, b), d, since_start_ + i);
      hn::StoreU(exp(d, hn::Sub(last, b)), d, until_end_ + i);
    }
  }

  const PairMask& mask() const { return mask_; }

  /// rows_i ← factor e^(b_i) rows_i
  void since_start(T factor, T* rows) const {
    if (chunk_.decays)
      scale_tile(rows, row_, chunk_.count, [&](std::int64_t i) { return factor * since_start_[i]; });
    else if (factor != 1)
      scale_tile(rows, row_, chunk_.count, [&](std::int64_t) { return factor; });
  }
  /// rows_i ← e^(b_C - b_i) rows_i
  void until_end(T* rows) const {
    if (chunk_.decays) scale_tile(rows, row_, chunk_.count, [&](std::int64_t i) { return until_end_[i]; });
  }
  /// to[c] ← to[c] + e^(b_C) from[c] for the K rows of a state, `columns` of them, both with `stride`.
  void add_kept(const T* from, T* to, std::int64_t stride, std::int64_t columns) const {
    const T kept = chunk_.decays ? since_start_[chunk_.count - 1] : T(1);
    for (std::int64_t c = 0; c < width_; ++c) add_scaled(kept, from + c * stride, to + c * stride, columns);
  }
  /// The same, put in the place of `to`.
  void copy_kept(const T* from, T* to, std::int64_t stride, std::int64_t columns) const {
    for (std::int64_t c = 0; c < width_; ++c) std::fill_n(to + c * stride, columns, T(0));
    add_kept(from, to, stride, columns);
  }

  /// pairs[j][i] ← scale Σ_c q_ic k_jc Γ_ij for j <= i, else 0. `transposed` is memory of kTile·K.
  void pairs(T scale, const T* q, const T* k, T* transposed, T* pairs) const {
    transpose_tile(q, row_, chunk_.count, width_, T(1), transposed);
    product<Start::zero>(Product<T>{k, row_, 1, transposed, kTile, pairs, kTile}, 0, chunk_.count,
                         mask_.template pairs<T>(width_));
    chunk_.weigh(scale, pairs);
  }
  /// With slopes[j][i], of which j <= i count:
  ///   dq_i ← dq_i + scale Σ_j slopes_ji Γ_ij k_j,   dk_j ← dk_j + scale Σ_i slopes_ji Γ_ij q_i
  /// The slopes are used up.
  void add_gradients(T scale, T* slopes, const T* q, const T* k, T* dq, T* dk) const {
    chunk_.weigh(scale, slopes);
    sum_over_rows<Start::keep>(Product<T>{slopes, 1, kTile, k, row_, dq, row_}, mask_, row_);
    sum_over_lanes<Start::keep>(Product<T>{slopes, kTile, 1, q, row_, dk, row_}, mask_, row_);
  }

 private:
  const LinearChunk<T>& chunk_;
  PairMask mask_;
  std::int64_t width_, row_;
  T since_start_[kTile], until_end_[kTile];
};

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_DECAY_TILE_INL_H
