// ops/cpu/row_decay-inl.h: how a chunk of positions forgets when each row of the state has a decay of its own.
//
// Γ_ijc = e^(b_ic - b_jc) is a product of the factors e^(g_lc), j < l <= i, none of which is above 1: nothing
// overflows, and what has decayed to nothing is 0. For pairs in different blocks of 16 positions it splits at the first
// position r of the later block, e^(b_i - b_r) e^(b_r - b_j), which leaves a matrix product; within a block it is
// multiplied up.

// clang-format off
#if defined(SUBQUAD_ROW_DECAY_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_ROW_DECAY_INL_H
#undef SUBQUAD_ROW_DECAY_INL_H
#else
#define SUBQUAD_ROW_DECAY_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/exp-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// The decays of `count` positions. Tiles have rows of padded(K) elements; those behind K are 0 in what is given.
template <class T>
class RowDecay {
 public:
  static std::int64_t size(std::int64_t width) { return (3 * kTile + 1) * padded<T>(width); }

  /// log_decay [count, K]
  RowDecay(const T* log_decay, std::int64_t count, std::int64_t width, Scratch<T>& scratch)
      : count_(count), width_(width), row_(padded<T>(width)) {
    factors_ = scratch.take(kTile * row_);
    left_ = scratch.take(kBlock * row_);
    right_ = scratch.take((kTile - kBlock) * row_);
    left_sums_ = scratch.take(kBlock * row_);
    right_sums_ = scratch.take((kTile - kBlock) * row_);
    kept_ = scratch.take(row_);
    const hn::ScalableTag<T> d;
    for (std::int64_t i = 0; i < count; ++i) {
      map(log_decay + i * width, factors_ + i * row_, width, [&](auto g) HWY_ATTR { return exp(d, g); });
      std::fill(factors_ + i * row_ + width, factors_ + (i + 1) * row_, T(1));
    }
    for_lanes([&](std::int64_t c) HWY_ATTR {
      auto product = hn::Set(d, T(1));
      for (std::int64_t i = 0; i < count; ++i) product = hn::Mul(product, factor(i, c));
      hn::StoreU(product, d, kept_ + c);
    });
  }

  /// e^(b_C) of a row of the state
  T kept(std::int64_t c) const { return kept_[c]; }

  /// rows_i ← scale e^(b_i) ∘ rows_i
  void since_start(T scale, T* HWY_RESTRICT rows) const {
    const hn::ScalableTag<T> d;
    for_lanes([&](std::int64_t c) HWY_ATTR {
      auto product = hn::Set(d, scale);
      for (std::int64_t i = 0; i < count_; ++i) {
        product = hn::Mul(product, factor(i, c));
        T* at = rows + i * row_ + c;
        hn::StoreU(hn::Mul(product, hn::LoadU(d, at)), d, at);
      }
    });
  }
  /// rows_i ← e^(b_C - b_i) ∘ rows_i
  void until_end(T* HWY_RESTRICT rows) const {
    const hn::ScalableTag<T> d;
    for_lanes([&](std::int64_t c) HWY_ATTR {
      auto product = hn::Set(d, T(1));
      for (std::int64_t i = count_ - 1; i >= 0; --i) {
        T* at = rows + i * row_ + c;
        hn::StoreU(hn::Mul(product, hn::LoadU(d, at)), d, at);
        product = hn::Mul(product, factor(i, c));
      }
    });
  }

  /// pairs[j][i] = scale Σ_c q_ic k_jc Γ_ijc for j <= i, else 0. `transposed` is memory of kTile·K.
  void pairs(T scale, const T* q, const T* k, T* transposed, T* pairs) const {
    std::fill_n(pairs, count_ * kTile, T(0));
    for (std::int64_t begin = 0; begin < count_; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, count_);
      if (begin > 0) {
        split(begin, end, scale, q, k);
        transpose_tile(left_, row_, end - begin, width_, T(1), transposed);
        product<Start::zero>(Product<T>{right_, row_, 1, transposed, kTile, pairs + begin, kTile}, 0, begin,
                             [&](std::int64_t, std::int64_t) {
                               return Extent{0, kBlock, 0, width_};
                             });
      }
      for (std::int64_t j = begin; j < end; ++j) pairs_of_key(j, end, scale, q, k, pairs + j * kTile);
    }
  }

  /// With slopes[j][i], of which j <= i count:
  ///   dq_ic ← dq_ic + scale Σ_j slopes_ji Γ_ijc k_jc,   dk_jc ← dk_jc + scale Σ_i slopes_ji Γ_ijc q_ic
  void add_gradients(T scale, const T* slopes, const T* q, const T* k, T* dq, T* dk) const {
    for (std::int64_t begin = 0; begin < count_; begin += kBlock) {
      const std::int64_t end = std::min(begin + kBlock, count_);
      if (begin > 0) {
        split(begin, end, T(1), q, k);
        const auto whole = [this](std::int64_t depth) {
          return [this, depth](std::int64_t, std::int64_t) { return Extent{0, row_, 0, depth}; };
        };
        product<Start::zero>(Product<T>{slopes + begin, 1, kTile, right_, row_, left_sums_, row_}, 0, end - begin,
                             whole(begin));
        product<Start::zero>(Product<T>{slopes + begin, kTile, 1, left_, row_, right_sums_, row_}, 0, begin,
                             whole(end - begin));
        join(begin, end, scale, dq, dk);
      }
      for_lanes([&](std::int64_t c) HWY_ATTR { add_gradients_within(begin, end, c, scale, slopes, q, k, dq, dk); });
    }
  }

 private:
  static constexpr std::int64_t kBlock = 16;

  HWY_INLINE hn::Vec<hn::ScalableTag<T>> factor(std::int64_t i, std::int64_t c) const {
    return hn::LoadU(hn::ScalableTag<T>(), factors_ + i * row_ + c);
  }
  template <class Body>
  HWY_INLINE void for_lanes(Body body) const {
    for (std::int64_t c = 0; c < row_; c += lanes_per_vector<T>()) body(c);
  }

  /// left_i = scale e^(b_i - b_begin) ∘ q_i for the block, right_j = e^(b_begin - b_j) ∘ k_j for all before it.
  void split(std::int64_t begin, std::int64_t end, T scale, const T* q, const T* k) const {
    const hn::ScalableTag<T> d;
    for_lanes([&](std::int64_t c) HWY_ATTR {
      auto product = hn::Set(d, scale);
      for (std::int64_t i = begin; i < end; ++i) {
        if (i > begin) product = hn::Mul(product, factor(i, c));
        hn::StoreU(hn::Mul(product, hn::LoadU(d, q + i * row_ + c)), d, left_ + (i - begin) * row_ + c);
      }
      product = factor(begin, c);
      for (std::int64_t j = begin - 1; j >= 0; --j) {
        hn::StoreU(hn::Mul(product, hn::LoadU(d, k + j * row_ + c)), d, right_ + j * row_ + c);
        product = hn::Mul(product, factor(j, c));
      }
    });
  }
  /// dq_i ← dq_i + scale e^(b_i - b_begin) ∘ left_sums_i,  dk_j ← dk_j + scale e^(b_begin - b_j) ∘ right_sums_j
  void join(std::int64_t begin, std::int64_t end, T scale, T* dq, T* dk) const {
    const hn::ScalableTag<T> d;
    const auto add = [&](T* to, hn::Vec<hn::ScalableTag<T>> product, const T* sums)
                         HWY_ATTR { hn::StoreU(hn::MulAdd(product, hn::LoadU(d, sums), hn::LoadU(d, to)), d, to); };
    for_lanes([&](std::int64_t c) HWY_ATTR {
      auto product = hn::Set(d, scale);
      for (std::int64_t i = begin; i < end; ++i) {
        if (i > begin) product = hn::Mul(product, factor(i, c));
        add(dq + i * row_ + c, product, left_sums_ + (i - begin) * row_ + c);
      }
      product = hn::Mul(hn::Set(d, scale), factor(begin, c));
      for (std::int64_t j = begin - 1; j >= 0; --j) {
        add(dk + j * row_ + c, product, right_sums_ + j * row_ + c);
        product = hn::Mul(product, factor(j, c));
      }
    });
  }

  /// pairs[i] for the queries i in [j, end): the key decays on the way.
  void pairs_of_key(std::int64_t j, std::int64_t end, T scale, const T* q, const T* k, T* pairs) const {
    const hn::ScalableTag<T> d;
    hn::Vec<hn::ScalableTag<T>> sums[kBlock];
    for (std::int64_t i = j; i < end; ++i) sums[i - j] = hn::Zero(d);
    for_lanes([&](std::int64_t c) HWY_ATTR {
      auto key = hn::LoadU(d, k + j * row_ + c);
      for (std::int64_t i = j; i < end; ++i) {
        if (i > j) key = hn::Mul(key, factor(i, c));
        sums[i - j] = hn::MulAdd(key, hn::LoadU(d, q + i * row_ + c), sums[i - j]);
      }
    });
    for (std::int64_t i = j; i < end; ++i) pairs[i] = scale * hn::GetLane(hn::SumOfLanes(d, sums[i - j]));
  }

  HWY_INLINE void add_gradients_within(std::int64_t begin, std::int64_t end, std::int64_t c, T scale, const T* slopes,
                                       const T* q, const T* k, T* dq, T* dk) const {
    const hn::ScalableTag<T> d;
    const auto factor_of_all = hn::Set(d, scale);
    hn::Vec<hn::ScalableTag<T>> of_queries[kBlock];
    for (std::int64_t i = begin; i < end; ++i) of_queries[i - begin] = hn::Zero(d);
    for (std::int64_t j = begin; j < end; ++j) {
      const T* slope = slopes + j * kTile;
      auto key = hn::LoadU(d, k + j * row_ + c);
      for (std::int64_t i = j; i < end; ++i) {
        if (i > j) key = hn::Mul(key, factor(i, c));
        of_queries[i - begin] = hn::MulAdd(hn::Set(d, slope[i]), key, of_queries[i - begin]);
      }
      auto of_key = hn::Zero(d);  // Σ_i slope_i Γ_ij q_i, from the last query to the first
      for (std::int64_t i = end - 1; i >= j; --i) {
        of_key = hn::MulAdd(hn::Set(d, slope[i]), hn::LoadU(d, q + i * row_ + c), of_key);
        if (i > j) of_key = hn::Mul(of_key, factor(i, c));
      }
      T* to = dk + j * row_ + c;
      hn::StoreU(hn::MulAdd(factor_of_all, of_key, hn::LoadU(d, to)), d, to);
    }
    for (std::int64_t i = begin; i < end; ++i) {
      T* to = dq + i * row_ + c;
      hn::StoreU(hn::MulAdd(factor_of_all, of_queries[i - begin], hn::LoadU(d, to)), d, to);
    }
  }

  std::int64_t count_, width_, row_;
  T *factors_, *kept_;  // e^(g_i), their product
  T *left_, *right_;    // queries and keys of a split
  T *left_sums_, *right_sums_;
};

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_ROW_DECAY_INL_H
