// ops/cpu/short_convolution.cpp: position after position, along the channels, which lie side by side; the W inputs of a
// position are in the first-level cache from the positions before. The weights' gradients sum over all positions: every
// block of positions makes its own partial sum, and the blocks are added in order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/short_convolution.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/short_convolution.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <array>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

constexpr std::int64_t kMostTaps = ShortConvolutionProblem::kMostTaps;

/// Rows of channels and the weights of their taps.
template <class T>
struct Taps {
  std::array<const T*, kMostTaps> rows, weights;
  std::int64_t count = 0;

  void add(const T* row, const T* weight) {
    rows[static_cast<std::size_t>(count)] = row;
    weights[static_cast<std::size_t>(count++)] = weight;
  }
};

/// The inputs of position t of batch row b, as far as they exist; tap(j, row) for each.
template <class T, class Visit>
void each_input(const ShortConvolutionProblem& p, const T* x, const T* first, std::int64_t b, std::int64_t t,
                Visit tap) {
  for (std::int64_t j = 0; j < p.taps; ++j) {
    const std::int64_t from = t - p.before() + j;
    if (from >= 0)
      tap(j, x + (b * p.positions + from) * p.channels);
    else if (first)
      tap(j, first + (b * p.before() + p.before() + from) * p.channels);
  }
}

/// out ← start + Σ weight·row; start may be null.
template <class T>
void weighted_sum(const Taps<T>& taps, const T* start, std::int64_t channels, T* out) {
  for_each_lane<T>(channels, [&](auto d, std::int64_t c) HWY_ATTR {
    auto sum = start ? hn::LoadU(d, start + c) : hn::Zero(d);
    for (std::size_t i = 0; i < static_cast<std::size_t>(taps.count); ++i)
      sum = hn::MulAdd(hn::LoadU(d, taps.weights[i] + c), hn::LoadU(d, taps.rows[i] + c), sum);
    hn::StoreU(sum, d, out + c);
  });
}

std::int64_t rows_per_block(const ShortConvolutionProblem& p) {
  return std::max<std::int64_t>(1, 16384 / (p.channels * p.taps));
}

template <class T>
void forward(const ShortConvolutionForward::Arguments<T>& a) {
  const ShortConvolutionProblem& p = a.problem;
  cpu::parallel_for(p.batch * p.positions, rows_per_block(p), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      Taps<T> taps;
      each_input(p, a.x, a.first, row / p.positions, row % p.positions,
                 [&](std::int64_t j, const T* from) { taps.add(from, a.weight + j * p.channels); });
      weighted_sum(taps, a.bias, p.channels, a.y + row * p.channels);
    }
  });
}

/// The gradient of the input at position t, which may be one of the W-1 before the first: tap j of position t+W-1-j
/// reads it.
template <class T>
void input_gradient(const ShortConvolutionBackward::Arguments<T>& a, std::int64_t b, std::int64_t t, T* out) {
  const ShortConvolutionProblem& p = a.problem;
  Taps<T> taps;
  for (std::int64_t j = 0; j < p.taps; ++j) {
    const std::int64_t reader = t + p.before() - j;
    if (reader >= 0 && reader < p.positions)
      taps.add(a.dy + (b * p.positions + reader) * p.channels, a.weight + j * p.channels);
  }
  weighted_sum<T>(taps, nullptr, p.channels, out);
}

/// sums[j] += dy·input of tap j, sums[W] += dy.
template <class T>
void add_weight_gradients(const ShortConvolutionBackward::Arguments<T>& a, std::int64_t row, T* sums) {
  const ShortConvolutionProblem& p = a.problem;
  const T* dy = a.dy + row * p.channels;
  each_input(p, a.x, a.first, row / p.positions, row % p.positions, [&](std::int64_t j, const T* from) {
    T* HWY_RESTRICT sum = sums + j * p.channels;
    for_each_lane<T>(p.channels, [&](auto d, std::int64_t c) HWY_ATTR {
      hn::StoreU(hn::MulAdd(hn::LoadU(d, dy + c), hn::LoadU(d, from + c), hn::LoadU(d, sum + c)), d, sum + c);
    });
  });
  add_scaled(T{1}, dy, sums + p.taps * p.channels, p.channels);
}

template <class T>
void weight_gradients(const ShortConvolutionBackward::Arguments<T>& a) {
  const ShortConvolutionProblem& p = a.problem;
  const std::int64_t rows = p.batch * p.positions, size = (p.taps + 1) * p.channels;
  const std::int64_t grain = std::max(rows_per_block(p), cpu::block_count(rows, 64));  // at most 64 blocks
  const std::int64_t blocks = cpu::block_count(rows, grain);
  Tensor partial = Tensor::empty({blocks, size}, {.dtype = dtype_of<T>(), .device = Device{}});
  T* sums = partial.data<T>();
  cpu::parallel_for(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T* own = sums + begin / grain * size;
    std::fill_n(own, size, T{});
    for (std::int64_t row = begin; row < end; ++row) add_weight_gradients(a, row, own);
  });
  std::fill_n(a.dweights, size, T{});
  for (std::int64_t block = 0; block < blocks; ++block) add_scaled(T{1}, sums + block * size, a.dweights, size);
}

template <class T>
void backward(const ShortConvolutionBackward::Arguments<T>& a) {
  const ShortConvolutionProblem& p = a.problem;
  if (a.dx)
    cpu::parallel_for(p.batch * p.positions, rows_per_block(p), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row)
        input_gradient(a, row / p.positions, row % p.positions, a.dx + row * p.channels);
    });
  if (a.dfirst)
    for (std::int64_t row = 0; row < p.batch * p.before(); ++row)
      input_gradient(a, row / p.before(), row % p.before() - p.before(), a.dfirst + row * p.channels);
  if (a.dweights) weight_gradients(a);
}

}  // namespace

Versions<ShortConvolutionForward> short_convolution_forward_versions() { return {forward<float>, forward<double>}; }
Versions<ShortConvolutionBackward> short_convolution_backward_versions() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(short_convolution_forward_versions);
HWY_EXPORT(short_convolution_backward_versions);

template <class T>
void ShortConvolutionForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(short_convolution_forward_versions)()(a);
}
template void ShortConvolutionForward::cpu(const Arguments<float>&);
template void ShortConvolutionForward::cpu(const Arguments<double>&);

template <class T>
void ShortConvolutionBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(short_convolution_backward_versions)()(a);
}
template void ShortConvolutionBackward::cpu(const Arguments<float>&);
template void ShortConvolutionBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
