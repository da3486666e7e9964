// ops/cuda/rms_norm.cu: a row is read once and held in registers (ops/cuda/row.h). Backward takes several rows a block
// and adds up the gain's gradient on the way, so that x and dy are read once for both gradients.
#include "ops/cuda/row.h"
#include "ops/rms_norm.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) forward(RmsNormForward::Arguments<T> a) {
  using W = Wide<T>;
  constexpr int P = S::template pack<T>;
  const std::int64_t row = cuda::block_index() * S::kGroups + S::group();
  const bool mine = row < a.rows;  // the last rows' neighbours still meet in the sum
  const std::int64_t begin = mine ? row * a.columns : 0;
  const RowParts<T, S, 1> x({a.x + begin}, mine ? a.columns : 0);
  W squares = 0;
  x.each([&](std::int64_t, int, const auto& v) {
#pragma unroll
    for (int i = 0; i < P; ++i) squares += v[0][i] * v[0][i];
  });
  const W mean = S::sum(squares) / static_cast<W>(a.columns);
  const W r = 1 / cuda::sqrt(mean + static_cast<W>(a.epsilon));
  if (mine && S::place() == 0) a.r[row] = r;
  x.each([&](std::int64_t c, int, const auto& v) {
    const auto gain = Values<T, P>::load(a.gain + c);
    Values<T, P> y;
#pragma unroll
    for (int i = 0; i < P; ++i) y[i] = v[0][i] * r * gain[i];
    y.store(a.y + begin + c);
  });
}

/// dx = r·g·dy - r³·s·x with s = mean_c(dy·g·x); sums ← Σ dy·x·r over the rows of the block.
template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) backward(RmsNormBackward::Arguments<T> a, Wide<T>* sums) {
  using W = Wide<T>;
  constexpr int P = S::template pack<T>;
  W own[S::kSlots][P] = {};
  for (std::int64_t first = cuda::block_index() * S::kGroups; first < a.rows;
       first += cuda::block_count() * S::kGroups) {
    const std::int64_t row = first + S::group();
    const bool mine = row < a.rows;
    const std::int64_t begin = mine ? row * a.columns : 0;
    const RowParts<T, S, 2> parts({a.x + begin, a.dy + begin}, mine ? a.columns : 0);
    const W r = mine ? a.r[row] : W(0);
    W products = 0;
    parts.each([&](std::int64_t c, int slot, const auto& v) {
      const auto gain = Values<T, P>::load(a.gain + c);
#pragma unroll
      for (int i = 0; i < P; ++i) {
        products += v[1][i] * gain[i] * v[0][i];
        if constexpr (S::kHeld) own[slot][i] += v[1][i] * (v[0][i] * r);
      }
    });
    if (!a.dx) continue;
    const W factor = r * r * r * (S::sum(products) / static_cast<W>(a.columns));
    parts.each([&](std::int64_t c, int, const auto& v) {
      const auto gain = Values<T, P>::load(a.gain + c);
      Values<T, P> dx;
#pragma unroll
      for (int i = 0; i < P; ++i) dx[i] = r * gain[i] * v[1][i] - factor * v[0][i];
      dx.store(a.dx + begin + c);
    });
  }
  if constexpr (S::kHeld)
    if (sums) add_groups<S, T>(a.columns, sums, [&](int slot, int i) { return own[slot][i]; });
}

/// A row's share of the gain's gradient.
template <class T>
struct GainTerm {
  RmsNormBackward::Arguments<T> a;
  __device__ Wide<T> operator()(std::int64_t row, std::int64_t c) const {
    return cuda::load(a.dy + row * a.columns + c) * (cuda::load(a.x + row * a.columns + c) * a.r[row]);
  }
};

}  // namespace

template <class T>
void RmsNormForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const bool aligned = cuda::is_aligned(a.x) && cuda::is_aligned(a.gain) && cuda::is_aligned(a.y);
  visit_spread<T>(a.columns, aligned, [&]<class S>() {
    cuda::launch_kernel(context, name, forward<S, T>,
                        {.blocks = cuda::blocks_for(a.rows, S::kGroups), .threads = kRowThreads}, a);
  });
}
template void RmsNormForward::cuda(const cuda::Context&, const Arguments<float>&);
template void RmsNormForward::cuda(const cuda::Context&, const Arguments<double>&);
template void RmsNormForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void RmsNormForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void RmsNormBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const bool aligned =
      cuda::is_aligned(a.x) && cuda::is_aligned(a.gain) && cuda::is_aligned(a.dy) && (!a.dx || cuda::is_aligned(a.dx));
  visit_spread<T>(a.columns, aligned, [&]<class S>() {
    const std::int64_t blocks = row_blocks(a.rows, S::kGroups);
    const cuda::Buffer<Wide<T>> sums(context, a.dgain ? blocks * a.columns : 0);
    Wide<T>* const target = a.dgain ? sums.data() : nullptr;
    if (S::kHeld || a.dx)
      cuda::launch_kernel(context, name, backward<S, T>, {.blocks = blocks, .threads = kRowThreads}, a, target);
    if (!a.dgain) return;
    if (!S::kHeld) launch_add_columns(context, name, a.rows, a.columns, blocks, target, GainTerm<T>{a});
    launch_add_parts(context, name, blocks, a.columns, target, a.dgain);
  });
}
template void RmsNormBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void RmsNormBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void RmsNormBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void RmsNormBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
