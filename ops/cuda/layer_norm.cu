// ops/cuda/layer_norm.cu: a row is read once and held in registers (ops/cuda/row.h). Backward takes several rows a
// block and adds up the gradients of gain and bias on the way, so that x and dy are read once for all three.
#include "ops/cuda/row.h"
#include "ops/layer_norm.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) forward(LayerNormForward::Arguments<T> a) {
  using W = Wide<T>;
  constexpr int P = S::template pack<T>;
  const std::int64_t row = cuda::block_index() * S::kGroups + S::group();
  const bool mine = row < a.rows;  // the last rows' neighbours still meet in the sums
  const std::int64_t begin = mine ? row * a.columns : 0;
  const RowParts<T, S, 1> x({a.x + begin}, mine ? a.columns : 0);
  W total = 0, squares = 0;
  x.each([&](std::int64_t, int, const auto& v) {
#pragma unroll
    for (int i = 0; i < P; ++i) total += v[0][i];
  });
  const W mean = S::sum(total) / static_cast<W>(a.columns);
  x.each([&](std::int64_t, int, const auto& v) {
#pragma unroll
    for (int i = 0; i < P; ++i) squares += (v[0][i] - mean) * (v[0][i] - mean);
  });
  const W r = 1 / cuda::sqrt(S::sum(squares) / static_cast<W>(a.columns) + static_cast<W>(a.epsilon));
  if (mine && S::place() == 0) {
    a.mean[row] = mean;
    a.r[row] = r;
  }
  x.each([&](std::int64_t c, int, const auto& v) {
    const auto gain = Values<T, P>::load(a.gain + c);
    Values<T, P> y, bias = {};
    if (a.bias) bias = Values<T, P>::load(a.bias + c);
#pragma unroll
    for (int i = 0; i < P; ++i) y[i] = (v[0][i] - mean) * r * gain[i] + bias[i];
    y.store(a.y + begin + c);
  });
}

/// dx = r · (u - mean_c u - x̂ · mean_c(u·x̂)) with u = dy·g; over the rows of the block, sums[0] ← Σ dy·x̂ and
/// sums[1] ← Σ dy.
template <class S, class T>
__global__ void __launch_bounds__(kRowThreads, 1)
    backward(LayerNormBackward::Arguments<T> a, Wide<T>* gain_sums, Wide<T>* bias_sums) {
  using W = Wide<T>;
  constexpr int P = S::template pack<T>;
  W own_gain[S::kSlots][P] = {}, own_bias[S::kSlots][P] = {};
  for (std::int64_t first = cuda::block_index() * S::kGroups; first < a.rows;
       first += cuda::block_count() * S::kGroups) {
    const std::int64_t row = first + S::group();
    const bool mine = row < a.rows;
    const std::int64_t begin = mine ? row * a.columns : 0;
    const RowParts<T, S, 2> parts({a.x + begin, a.dy + begin}, mine ? a.columns : 0);
    const W mean = mine ? a.mean[row] : W(0), r = mine ? a.r[row] : W(0);
    W sum_u = 0, sum_ux = 0;
    parts.each([&](std::int64_t c, int slot, const auto& v) {
      const auto gain = Values<T, P>::load(a.gain + c);
#pragma unroll
      for (int i = 0; i < P; ++i) {
        const W u = v[1][i] * gain[i], normal = (v[0][i] - mean) * r;
        sum_u += u;
        sum_ux += u * normal;
        if constexpr (S::kHeld) {
          own_gain[slot][i] += v[1][i] * normal;
          own_bias[slot][i] += v[1][i];
        }
      }
    });
    if (!a.dx) continue;
    const W mean_u = S::sum(sum_u) / static_cast<W>(a.columns), mean_ux = S::sum(sum_ux) / static_cast<W>(a.columns);
    parts.each([&](std::int64_t c, int, const auto& v) {
      const auto gain = Values<T, P>::load(a.gain + c);
      Values<T, P> dx;
#pragma unroll
      for (int i = 0; i < P; ++i) dx[i] = r * (v[1][i] * gain[i] - mean_u - (v[0][i] - mean) * r * mean_ux);
      dx.store(a.dx + begin + c);
    });
  }
  if constexpr (S::kHeld) {
    if (gain_sums) add_groups<S, T>(a.columns, gain_sums, [&](int slot, int i) { return own_gain[slot][i]; });
    if (bias_sums) add_groups<S, T>(a.columns, bias_sums, [&](int slot, int i) { return own_bias[slot][i]; });
  }
}

/// A row's share of the gain's gradient, and of the bias's.
template <class T>
struct GainTerm {
  LayerNormBackward::Arguments<T> a;
  __device__ Wide<T> operator()(std::int64_t row, std::int64_t c) const {
    const std::int64_t at = row * a.columns + c;
    return cuda::load(a.dy + at) * ((cuda::load(a.x + at) - a.mean[row]) * a.r[row]);
  }
};
template <class T>
struct BiasTerm {
  LayerNormBackward::Arguments<T> a;
  __device__ Wide<T> operator()(std::int64_t row, std::int64_t c) const {
    return cuda::load(a.dy + row * a.columns + c);
  }
};

}  // namespace

template <class T>
void LayerNormForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const bool aligned = cuda::is_aligned(a.x) && cuda::is_aligned(a.gain) && cuda::is_aligned(a.y) &&
                       (!a.bias || cuda::is_aligned(a.bias));
  visit_spread<T>(a.columns, aligned, [&]<class S>() {
    cuda::launch_kernel(context, name, forward<S, T>,
                        {.blocks = cuda::blocks_for(a.rows, S::kGroups), .threads = kRowThreads}, a);
  });
}
template void LayerNormForward::cuda(const cuda::Context&, const Arguments<float>&);
template void LayerNormForward::cuda(const cuda::Context&, const Arguments<double>&);
template void LayerNormForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void LayerNormForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void LayerNormBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const bool aligned =
      cuda::is_aligned(a.x) && cuda::is_aligned(a.gain) && cuda::is_aligned(a.dy) && (!a.dx || cuda::is_aligned(a.dx));
  visit_spread<T>(a.columns, aligned, [&]<class S>() {
    const std::int64_t blocks = row_blocks(a.rows, S::kGroups);
    const cuda::Buffer<Wide<T>> sums(context, 2 * blocks * a.columns);
    Wide<T>* const gain_sums = a.dgain ? sums.data() : nullptr;
    Wide<T>* const bias_sums = a.dbias ? sums.data() + blocks * a.columns : nullptr;
    if (S::kHeld || a.dx)
      cuda::launch_kernel(context, name, backward<S, T>, {.blocks = blocks, .threads = kRowThreads}, a, gain_sums,
                          bias_sums);
    const auto finish = [&](Wide<T>* parts, T* total, const auto& term) {
      if (!total) return;
      if (!S::kHeld) launch_add_columns(context, name, a.rows, a.columns, blocks, parts, term);
      launch_add_parts(context, name, blocks, a.columns, parts, total);
    };
    finish(gain_sums, a.dgain, GainTerm<T>{a});
    finish(bias_sums, a.dbias, BiasTerm<T>{a});
  });
}
template void LayerNormBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void LayerNormBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void LayerNormBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void LayerNormBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
