// ops/cpu/linear_tile-inl.h: what the forward and the backward kernel of linear attention share: a chunk's rows with
// their decays, and the sums of states over chunks.

// clang-format off
#if defined(SUBQUAD_LINEAR_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SUBQUAD_LINEAR_TILE_INL_H
#undef SUBQUAD_LINEAR_TILE_INL_H
#else
#define SUBQUAD_LINEAR_TILE_INL_H
#endif
// clang-format on

#include "hwy/highway.h"

#include "ops/cpu/exp-inl.h"
#include "ops/cpu/softmax_tile-inl.h"
#include "ops/cpu/tile-inl.h"
#include "ops/cpu/vector-inl.h"
#include "ops/linear_attention.h"
#include "tensor/cpu/threads.h"

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

static_assert(LinearAttentionProblem::kChunk == kTile);

/// A chunk of one head: its positions [first, first+count), and b_i = g_first + … + g_i where one decay holds for all
/// rows of the state.
template <class T>
struct LinearChunk {
  std::int64_t b, h, first, count;
  T decay[kTile];  // b_i
  bool decays;

  LinearChunk(const LinearAttentionProblem& p, const T* log_decay, std::int64_t task)
      : b(task / p.chunks() / p.heads),
        h(task / p.chunks() % p.heads),
        first(task % p.chunks() * kTile),
        count(std::min(kTile, p.positions - first)),
        decays(log_decay != nullptr && !p.decay_by_row) {
    T sum = 0;
    for (std::int64_t i = 0; i < kTile; ++i) {
      if (decays && i < count) sum += log_decay[(b * p.heads + h) * p.positions + first + i];
      decay[i] = sum;
    }
  }
  /// Pairs of a key (row) and a query (lane) that is not before it.
  PairMask mask() const {
    PairMask mask;
    mask.rows = mask.lanes = count;
    for (std::int64_t c = 0; c < count; ++c)
      mask.bits[static_cast<std::size_t>(c)] = PairMask::low_bits(count) & ~PairMask::low_bits(c);
    mask.find_hulls();
    return mask;
  }

  /// pairs[key][query] ← scale Γ pairs for the pairs of the mask, 0 for the others.
  void weigh(T scale, T* HWY_RESTRICT pairs) const {
    const hn::ScalableTag<T> d;
    const std::int64_t lanes = lanes_per_vector<T>();
    const auto factor = hn::Set(d, scale);
    for (std::int64_t c = 0; c < count; ++c) {
      T* row = pairs + c * kTile;
      const std::uint64_t alive = PairMask::low_bits(count) & ~PairMask::low_bits(c);
      for (std::int64_t r = 0; r < kTile; r += lanes) {
        auto weight = factor;
        // min: lanes before the key have a positive exponent, which might overflow.
        if (decays)
          weight =
              hn::Mul(factor, exp(d, hn::Min(hn::Sub(hn::LoadU(d, decay + r), hn::Set(d, decay[c])), hn::Zero(d))));
        const auto mask = lane_mask(d, alive, r);
        hn::Store(hn::IfThenElseZero(mask, hn::Mul(weight, hn::Load(d, row + r))), d, row + r);
      }
    }
  }
};

/// Rows first … of a chunk side by side with `stride` between them, each times factor(i), zeros behind.
template <class T, class Factor>
HWY_INLINE void scaled_rows(const HeadRows<const T>& rows, const LinearChunk<T>& chunk, std::int64_t width,
                            std::int64_t stride, T* HWY_RESTRICT out, Factor factor) {
  for (std::int64_t i = 0; i < chunk.count; ++i, out += stride) {
    const T* row = rows.at(chunk.b, chunk.h, chunk.first + i);
    const T f = factor(i);
    for (std::int64_t c = 0; c < width; ++c) out[c] = f * row[c];
    std::fill(out + width, out + stride, T(0));
  }
}
template <class T>
void plain_rows(const HeadRows<const T>& rows, const LinearChunk<T>& chunk, std::int64_t width, std::int64_t stride,
                T* out) {
  scaled_rows(rows, chunk, width, stride, out, [](std::int64_t) { return T(1); });
}

/// Rows of a tile to their positions.
template <class T>
void store_rows(const LinearChunk<T>& chunk, const T* rows, std::int64_t stride, std::int64_t width,
                const HeadRows<T>& out) {
  for (std::int64_t i = 0; i < chunk.count; ++i)
    std::copy_n(rows + i * stride, width, out.at(chunk.b, chunk.h, chunk.first + i));
}

/// c[m][n] = Σ_k A(m,k) b[k][n], whole.
template <Start kStart, class T>
void whole_product(const Product<T>& product_of, std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  product<kStart>(product_of, 0, rows, [=](std::int64_t, std::int64_t) { return Extent{0, columns, 0, depth}; });
}

/// Runs body(chunk) in parallel for all chunks of all heads.
template <class T, class Body>
void for_linear_chunks(const LinearAttentionProblem& p, const T* log_decay, std::int64_t multiply_adds, Body body) {
  cpu::parallel_for(p.batch * p.heads * p.chunks(), tasks_per_block(multiply_adds),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t task = begin; task < end; ++task)
                        body(LinearChunk<T>(p, log_decay, task), task % p.chunks());
                    });
}

/// state number `chunk` of a head.
template <class T>
T* state_at(const LinearAttentionProblem& p, T* states, std::int64_t b, std::int64_t h, std::int64_t chunk) {
  return states + ((b * p.heads + h) * (p.chunks() + 1) + chunk) * p.state_size();
}

/// e^(b_C) of row c of the state: what is left of it after the chunk.
template <class T>
T kept_by_chunk(const LinearAttentionProblem& p, const T* log_decay, const LinearChunk<T>& chunk, std::int64_t c) {
  if (!p.decay_by_row || !log_decay) return chunk.decays ? std::exp(chunk.decay[chunk.count - 1]) : T(1);
  const T* g = log_decay + ((chunk.b * p.heads + chunk.h) * p.positions + chunk.first) * p.width + c;
  T sum = 0;
  for (std::int64_t i = 0; i < chunk.count; ++i) sum += g[i * p.width];
  return std::exp(sum);
}

/// For every head and row of a state, `step(before, after, e^(b_C), elements)` for the chunks in order: a state is a
/// sum over the chunks before it, a gradient one over the chunks after.
template <class T, class Step>
void sum_over_chunks(const LinearAttentionProblem& p, const T* log_decay, bool backwards, T* states, Step step) {
  constexpr std::int64_t kRowsAtOnce = 8;
  const std::int64_t blocks = cpu::block_count(p.width, kRowsAtOnce), chunks = p.chunks(), size = p.state_row();
  const auto follow = [&](std::int64_t task) {
    const std::int64_t head = task / blocks, row = task % blocks * kRowsAtOnce;
    const std::int64_t rows = std::min(kRowsAtOnce, p.width - row);
    for (std::int64_t n = 0; n < chunks; ++n) {
      const std::int64_t number = backwards ? chunks - 1 - n : n;
      const LinearChunk<T> chunk(p, log_decay, head * chunks + number);
      T* before = state_at(p, states, chunk.b, chunk.h, number) + row * size;
      T* after = before + p.state_size();
      if (!p.decay_by_row)
        step(before, after, kept_by_chunk(p, log_decay, chunk, row), rows * size);
      else
        for (std::int64_t c = 0; c < rows; ++c)
          step(before + c * size, after + c * size, kept_by_chunk(p, log_decay, chunk, row + c), size);
    }
  };
  cpu::parallel_for(p.batch * p.heads * blocks, tasks_per_block(chunks * kRowsAtOnce * size),
                    [&](std::int64_t begin, std::int64_t end) {
                      for (std::int64_t task = begin; task < end; ++task) follow(task);
                    });
}

/// A state given as [B,H,K,V], or nothing, into place `chunk` of the stored ones.
template <class T>
void set_state(const LinearAttentionProblem& p, const T* given, std::int64_t chunk, T* states) {
  for (std::int64_t head = 0; head < p.batch * p.heads; ++head)
    for (std::int64_t c = 0; c < p.width; ++c) {
      T* row = state_at(p, states, head / p.heads, head % p.heads, chunk) + c * p.state_row();
      std::fill_n(row, p.state_row(), T(0));
      if (given) std::copy_n(given + (head * p.width + c) * p.value_width, p.value_width, row);
    }
}

/// out[i][c] = Σ_v left[i][v] state[c][v]: the product with a transposed state.
template <class T>
void times_transposed(const LinearAttentionProblem& p, const T* left, std::int64_t rows, const T* state, T* transposed,
                      T* out) {
  for (std::int64_t c = 0; c < p.width; c += kTile) {
    const std::int64_t columns = std::min(kTile, p.width - c);
    transpose_tile(state + c * p.state_row(), p.state_row(), columns, p.value_width, T(1), transposed);
    whole_product<Start::zero>(Product<T>{left, p.state_row(), 1, transposed, kTile, out + c, padded<T>(p.width)}, rows,
                               padded<T>(columns), p.value_width);
  }
}

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SUBQUAD_LINEAR_TILE_INL_H
