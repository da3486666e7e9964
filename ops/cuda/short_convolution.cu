// ops/cuda/short_convolution.cu: a thread takes one channel of some neighbouring positions and moves along them with
// the last inputs in registers, so that each is read from memory about once; neighbouring threads take neighbouring
// channels.
#include "ops/cuda/row.h"
#include "ops/short_convolution.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

constexpr int kRun = 16;  // positions of a thread

/// What a thread works on: one channel of kRun positions of a batch row. Blocks differ in channels first.
struct Place {
  std::int64_t c, b, begin;

  __device__ Place(const ShortConvolutionProblem& p, std::int64_t positions) {
    const std::int64_t across = (p.channels + kRowThreads - 1) / kRowThreads, runs = (positions + kRun - 1) / kRun;
    const std::int64_t block = cuda::block_index(), run = quotient(block, across);
    c = (block - run * across) * kRowThreads + cuda::thread_index();
    b = quotient(run, runs);
    begin = (run - b * runs) * kRun;
  }
};
cuda::Grid grid(const ShortConvolutionProblem& p, std::int64_t positions) {
  return {.blocks = cuda::blocks_for(p.channels, kRowThreads) * p.batch * cuda::blocks_for(positions, kRun),
          .threads = kRowThreads};
}

/// The input of position `t` of channel c, which may be before the first; 0 where there is none.
template <class T>
__device__ Wide<T> input(const ShortConvolutionProblem& p, const T* x, const T* first, std::int64_t b, std::int64_t t,
                         std::int64_t c) {
  if (t >= 0) return cuda::load(x + (b * p.positions + t) * p.channels + c);
  if (first && t >= -p.before()) return cuda::load(first + (b * p.before() + p.before() + t) * p.channels + c);
  return 0;
}

/// The weights of one channel; tap i of Taps is tap i - (Taps - W) of W, earlier ones do not exist.
template <int Taps, class T>
struct Weights {
  Wide<T> at[Taps];
  int none;  // taps that do not exist

  __device__ Weights(const ShortConvolutionProblem& p, const T* weight, std::int64_t c)
      : none(Taps - static_cast<int>(p.taps)) {
#pragma unroll
    for (int i = 0; i < Taps; ++i) at[i] = i >= none ? cuda::load(weight + (i - none) * p.channels + c) : Wide<T>(0);
  }
  /// Σ weight·value over the taps that exist: what is left of others may be anything.
  __device__ Wide<T> sum(const Wide<T> (&values)[Taps]) const {
    Wide<T> result = 0;
#pragma unroll
    for (int i = 0; i < Taps; ++i)
      if (i >= none) result += at[i] * values[i];
    return result;
  }
};

template <int Taps, class T>
__global__ void forward(ShortConvolutionForward::Arguments<T> a) {
  using W = Wide<T>;
  const ShortConvolutionProblem& p = a.problem;
  const Place place(p, p.positions);
  const std::int64_t c = place.c, b = place.b, begin = place.begin;
  if (c >= p.channels) return;
  const std::int64_t end = begin + kRun < p.positions ? begin + kRun : p.positions;
  const Weights<Taps, T> weights(p, a.weight, c);
  const W bias = a.bias ? W(cuda::load(a.bias + c)) : W(0);
  W last[Taps];  // last[i]: the input of position t - (Taps - 1) + i
#pragma unroll
  for (int i = 1; i < Taps; ++i) last[i] = input(p, a.x, a.first, b, begin - Taps + i, c);
  for (std::int64_t t = begin; t < end; ++t) {
#pragma unroll
    for (int i = 0; i + 1 < Taps; ++i) last[i] = last[i + 1];
    const std::int64_t at = (b * p.positions + t) * p.channels + c;
    last[Taps - 1] = cuda::load(a.x + at);
    a.y[at] = cuda::narrow<T>(bias + weights.sum(last));
  }
}

/// dx[t] = Σ_j weight[j] dy[t+W-1-j], from later positions to earlier ones, and on to those before the first.
template <int Taps, class T>
__global__ void input_gradients(ShortConvolutionBackward::Arguments<T> a) {
  using W = Wide<T>;
  const ShortConvolutionProblem& p = a.problem;
  const Place place(p, p.positions + p.before());
  const std::int64_t c = place.c, b = place.b, begin = place.begin - p.before();
  if (c >= p.channels) return;
  const std::int64_t end = begin + kRun < p.positions ? begin + kRun : p.positions;
  const Weights<Taps, T> weights(p, a.weight, c);
  const auto upstream = [&](std::int64_t t) {
    return t >= 0 && t < p.positions ? W(cuda::load(a.dy + (b * p.positions + t) * p.channels + c)) : W(0);
  };
  W next[Taps];  // next[i]: dy of position t + Taps - 1 - i
#pragma unroll
  for (int i = 1; i < Taps; ++i) next[i] = upstream(end + Taps - 1 - i);
  for (std::int64_t t = end - 1; t >= begin; --t) {
#pragma unroll
    for (int i = 0; i + 1 < Taps; ++i) next[i] = next[i + 1];
    next[Taps - 1] = upstream(t);
    const W sum = weights.sum(next);
    if (t >= 0 && a.dx) a.dx[(b * p.positions + t) * p.channels + c] = cuda::narrow<T>(sum);
    if (t < 0 && a.dfirst) a.dfirst[(b * p.before() + p.before() + t) * p.channels + c] = cuda::narrow<T>(sum);
  }
}

/// A position's share of the gradients of weights and bias: column j·C + c.
template <class T>
struct WeightTerm {
  ShortConvolutionBackward::Arguments<T> a;
  __device__ Wide<T> operator()(std::int64_t row, std::int64_t column) const {
    const ShortConvolutionProblem& p = a.problem;
    const std::int64_t j = quotient(column, p.channels), c = column - j * p.channels;
    const Wide<T> dy = cuda::load(a.dy + row * p.channels + c);
    if (j == p.taps) return dy;
    const std::int64_t b = quotient(row, p.positions), t = row - b * p.positions;
    return dy * input(p, a.x, a.first, b, t - p.before() + j, c);
  }
};

/// f.template operator()<Taps>() with at least as many taps as there are.
template <class F>
void visit_taps(std::int64_t taps, F&& f) {
  if (taps <= 4)
    f.template operator()<4>();
  else
    f.template operator()<ShortConvolutionProblem::kMostTaps>();
}

}  // namespace

template <class T>
void ShortConvolutionForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  visit_taps(a.problem.taps, [&]<int Taps>() {
    cuda::launch_kernel(context, name, forward<Taps, T>, grid(a.problem, a.problem.positions), a);
  });
}
template void ShortConvolutionForward::cuda(const cuda::Context&, const Arguments<float>&);
template void ShortConvolutionForward::cuda(const cuda::Context&, const Arguments<double>&);
template void ShortConvolutionForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void ShortConvolutionForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void ShortConvolutionBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const ShortConvolutionProblem& p = a.problem;
  if (a.dx || a.dfirst)
    visit_taps(p.taps, [&]<int Taps>() {
      cuda::launch_kernel(context, name, input_gradients<Taps, T>, grid(p, p.positions + p.before()), a);
    });
  if (!a.dweights) return;
  const std::int64_t rows = p.batch * p.positions, columns = (p.taps + 1) * p.channels, parts = row_blocks(rows, 8);
  const cuda::Buffer<Wide<T>> sums(context, parts * columns);
  launch_add_columns(context, name, rows, columns, parts, sums.data(), WeightTerm<T>{a});
  launch_add_parts(context, name, parts, columns, sums.data(), a.dweights);
}
template void ShortConvolutionBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void ShortConvolutionBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void ShortConvolutionBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void ShortConvolutionBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
