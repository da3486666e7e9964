// ops/cuda/rope.cu: a thread turns 16 bytes of the first half of a head together with their partners of the second, in
// up to four heads, so that cosines and sines are read once for four.
#include "ops/cuda/row.h"
#include "ops/rope.h"

#include <cmath>

namespace sq::kernel {
namespace {

constexpr std::int64_t kHeadsEach = 4;

template <class T>
__global__ void __launch_bounds__(kRowThreads) write_table(RopeTable::Arguments<T> a) {
  const std::int64_t i = cuda::global_index(), pairs = a.width / 2;
  if (i >= a.count * pairs) return;
  const std::int64_t row = quotient(i, pairs), m = i - row * pairs;
  const double frequency = ::pow(a.base, -static_cast<double>(m) / static_cast<double>(pairs));
  const double angle = static_cast<double>(a.positions[row]) * frequency;
  T* const out = a.table + row * a.width + m;
  out[0] = static_cast<T>(::cos(angle));
  out[pairs] = static_cast<T>(::sin(angle));
}

/// y = [x₁ cos - x₂ sin ; x₂ cos + x₁ sin] for the halves x₁, x₂ of a row. Blocks of one axis-1 index share their
/// heads.
template <int P, class T>
__global__ void __launch_bounds__(kRowThreads) turn(Rope::Arguments<T> a) {
  const std::int64_t half = a.width / 2, packs = half / P, i = cuda::global_index();
  if (i >= a.batch * a.positions * packs) return;
  const std::int64_t row = quotient(i, packs), m = (i - row * packs) * P;
  const std::int64_t b = quotient(row, a.positions), t = row - b * a.positions;
  using W = cuda::Wide<T>;
  constexpr int kTogether = P > 1 ? cuda::kPack<W> : 1;
  const W* const table = a.table + b * a.table_step + t * a.width + m;
  Values<W, kTogether> cosine[P / kTogether], sine[P / kTogether];
#pragma unroll
  for (int k = 0; k < P / kTogether; ++k) {
    cosine[k] = Values<W, kTogether>::load(table + k * kTogether);
    sine[k] = Values<W, kTogether>::load(table + half + k * kTogether);
  }
  const W sign = a.backward ? W(-1) : W(1);
  const std::int64_t first = cuda::block_index(1) * kHeadsEach;
  const std::int64_t last = first + kHeadsEach < a.heads ? first + kHeadsEach : a.heads;
  for (std::int64_t h = first; h < last; ++h) {
    const T* const x = a.x + b * a.x_steps.batch + h * a.x_steps.head + t * a.x_steps.position + m;
    T* const y = a.y + b * a.y_steps.batch + h * a.y_steps.head + t * a.y_steps.position + m;
    const auto x1 = Values<T, P>::load(x), x2 = Values<T, P>::load(x + half);
    Values<T, P> y1, y2;
#pragma unroll
    for (int k = 0; k < P; ++k) {
      const W c = cosine[k / kTogether][k % kTogether], s = sign * sine[k / kTogether][k % kTogether];
      y1[k] = x1[k] * c - x2[k] * s;
      y2[k] = x2[k] * c + x1[k] * s;
    }
    y1.store(y);
    y2.store(y + half);
  }
}

template <class T>
bool in_packs(const T* pointer, const Rope::Steps& steps) {
  constexpr std::int64_t P = cuda::kPack<T>;
  return cuda::is_aligned(pointer) && steps.batch % P == 0 && steps.head % P == 0 && steps.position % P == 0;
}

}  // namespace

template <class T>
void RopeTable::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::launch_kernel(context, name, write_table<T>,
                      {.blocks = cuda::blocks_for(a.count * (a.width / 2), kRowThreads), .threads = kRowThreads}, a);
}
template void RopeTable::cuda(const cuda::Context&, const Arguments<float>&);
template void RopeTable::cuda(const cuda::Context&, const Arguments<double>&);

template <class T>
void Rope::cuda(const cuda::Context& context, const Arguments<T>& a) {
  constexpr std::int64_t P = cuda::kPack<T>;
  const std::int64_t half = a.width / 2;
  const bool packed = half % P == 0 && in_packs(a.x, a.x_steps) && in_packs(a.y, a.y_steps);
  cuda::launch_kernel(context, name, packed ? turn<P, T> : turn<1, T>,
                      {.blocks = cuda::blocks_for(a.batch * a.positions * (half / (packed ? P : 1)), kRowThreads),
                       .threads = kRowThreads,
                       .shared_bytes = 0,
                       .blocks_y = cuda::blocks_for(a.heads, kHeadsEach)},
                      a);
}
template void Rope::cuda(const cuda::Context&, const Arguments<float>&);
template void Rope::cuda(const cuda::Context&, const Arguments<double>&);
template void Rope::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Rope::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
