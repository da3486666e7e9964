// ops/cpu/decay_tile-inl.h: how a chunk of positions forgets. With b_i = g_first + … + g_i and Γ_ij = e^(b_i - b_j):
// rows times e^(b_i) and e^(b_C - b_i), pairs times Γ, and their gradients; for one decay of all rows of a state and
// for one of each row, when b_i, and so Γ_ij, is a vector of K numbers.

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
#include "ops/cpu/row_decay-inl.h"

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
  /// Memory that it takes of a task's scratch.
  static std::int64_t size(const LinearAttentionProblem& p) { return p.decay_by_row ? RowDecay<T>::size(p.width) : 0; }

  ChunkDecay(const LinearAttentionProblem& p, const T* log_decay, const LinearChunk<T>& chunk, Scratch<T>& scratch)
      : chunk_(chunk), mask_(chunk.mask()), width_(p.width), row_(padded<T>(p.width)) {
    if (p.decay_by_row)
      rows_.emplace(log_decay + ((chunk.b * p.heads + chunk.h) * p.positions + chunk.first) * p.width, chunk.count,
                    p.width, scratch);
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
    if (rows_)
      rows_->since_start(factor, rows);
    else if (chunk_.decays)
      scale_tile(rows, row_, chunk_.count, [&](std::int64_t i) { return factor * since_start_[i]; });
    else if (factor != 1)
      scale_tile(rows, row_, chunk_.count, [&](std::int64_t) { return factor; });
  }
  /// rows_i ← e^(b_C - b_i) rows_i
  void until_end(T* rows) const {
    if (rows_)
      rows_->until_end(rows);
    else if (chunk_.decays)
      scale_tile(rows, row_, chunk_.count, [&](std::int64_t i) { return until_end_[i]; });
  }
  /// to ← to + e^(b_C) from, for `columns` columns of a state; its rows have `stride`.
  void add_kept(const T* from, T* to, std::int64_t stride, std::int64_t columns) const {
    const T kept = chunk_.decays ? since_start_[chunk_.count - 1] : T(1);
    for (std::int64_t c = 0; c < width_; ++c)
      add_scaled(rows_ ? rows_->kept(c) : kept, from + c * stride, to + c * stride, columns);
  }
  /// to ← e^(b_C) from
  void copy_kept(const T* from, T* to, std::int64_t stride, std::int64_t columns) const {
    for (std::int64_t c = 0; c < width_; ++c) std::fill_n(to + c * stride, columns, T(0));
    add_kept(from, to, stride, columns);
  }

  /// pairs[j][i] = scale Σ_c q_ic k_jc Γ_ijc for j <= i, else 0. `transposed` is memory of kTile·K.
  void pairs(T scale, const T* q, const T* k, T* transposed, T* pairs) const {
    if (rows_) return rows_->pairs(scale, q, k, transposed, pairs);
    transpose_tile(q, row_, chunk_.count, width_, T(1), transposed);
    product<Start::zero>(Product<T>{k, row_, 1, transposed, kTile, pairs, kTile}, 0, chunk_.count,
                         mask_.template pairs<T>(width_));
    chunk_.weigh(scale, pairs);
  }
  /// With slopes[j][i], of which j <= i count, and which are used up:
  ///   dq_ic ← dq_ic + scale Σ_j slopes_ji Γ_ijc k_jc,   dk_jc ← dk_jc + scale Σ_i slopes_ji Γ_ijc q_ic
  void add_gradients(T scale, T* slopes, const T* q, const T* k, T* dq, T* dk) const {
    if (rows_) return rows_->add_gradients(scale, slopes, q, k, dq, dk);
    chunk_.weigh(scale, slopes);
    sum_over_rows<Start::keep>(Product<T>{slopes, 1, kTile, k, row_, dq, row_}, mask_, row_);
    sum_over_lanes<Start::keep>(Product<T>{slopes, kTile, 1, q, row_, dk, row_}, mask_, row_);
  }

 private:
  const LinearChunk<T>& chunk_;
  PairMask mask_;
  std::int64_t width_, row_;
  T since_start_[kTile], until_end_[kTile];
  std::optional<RowDecay<T>> rows_;
};

/// Y = s (diag(e^b) Q S + (Q Kᵀ ∘ Γ) V): what the chunk reads from its first state S and its own values.
template <class T>
void read_chunk(const LinearAttentionProblem& p, const T* log_decay, const HeadRows<const T>& q,
                const HeadRows<const T>& k, const HeadRows<const T>& v, const LinearChunk<T>& chunk,
                std::int64_t number, const T* states, const HeadRows<T>& out) {
  const T scale = static_cast<T>(p.scale);
  const std::int64_t width = padded<T>(p.width), row = p.state_row();
  Scratch<T> scratch(kTile * (2 * width + p.width + kTile + 2 * row) + ChunkDecay<T>::size(p));
  T *keys = scratch.take(kTile * width), *queries = scratch.take(kTile * width);
  T *transposed = scratch.take(kTile * p.width), *pairs = scratch.take(kTile * kTile);
  T *values = scratch.take(kTile * row), *y = scratch.take(kTile * row);
  const ChunkDecay<T> decay(p, log_decay, chunk, scratch);
  plain_rows(q, chunk, p.width, width, queries);
  plain_rows(k, chunk, p.width, width, keys);
  plain_rows(v, chunk, p.value_width, row, values);
  decay.pairs(scale, queries, keys, transposed, pairs);
  decay.since_start(scale, queries);
  const T* state = state_at(p, states, chunk.b, chunk.h, number);
  whole_product<Start::zero>(Product<T>{queries, width, 1, state, row, y, row}, chunk.count, row, p.width);
  sum_over_rows<Start::keep>(Product<T>{pairs, 1, kTile, values, row, y, row}, decay.mask(), row);
  store_rows(chunk, y, row, p.value_width, out);
}

/// dg_i = Σ_{l>=i} (q_l·dq_l + k_l·(d_l - e_l)) + ⟨S', dS'⟩, or the same for each row of the state; d may be null, S'
/// and dS' are the state after the chunk and its gradient.
template <class T>
void decay_gradient(const LinearAttentionProblem& p, const LinearChunk<T>& chunk, const T* state, const T* dstate,
                    const T* q, const T* dq, const T* k, const T* d, const T* e, T* dlog_decay) {
  const std::int64_t width = padded<T>(p.width), first = (chunk.b * p.heads + chunk.h) * p.positions + chunk.first;
  if (!p.decay_by_row) {
    T sum = dot(state, dstate, p.state_size());
    for (std::int64_t i = chunk.count - 1; i >= 0; --i) {
      const std::int64_t at = i * width;
      sum += dot(q + at, dq + at, width) - dot(k + at, e + at, width);
      if (d) sum += dot(k + at, d + at, width);
      dlog_decay[first + i] = sum;
    }
    return;
  }
  for (std::int64_t c = 0; c < p.width; ++c)
    dlog_decay[(first + chunk.count - 1) * p.width + c] =
        dot(state + c * p.state_row(), dstate + c * p.state_row(), p.state_row());
  for (std::int64_t i = chunk.count - 1; i >= 0; --i) {
    T* out = dlog_decay + (first + i) * p.width;
    const T* behind = i + 1 < chunk.count ? out + p.width : out;
    for (std::int64_t c = 0; c < p.width; ++c) {
      const std::int64_t at = i * width + c;
      out[c] = behind[c] + q[at] * dq[at] + k[at] * ((d ? d[at] : T(0)) - e[at]);
    }
  }
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_DECAY_TILE_INL_H
