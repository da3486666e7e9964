// ops/cuda/l2_normalize.cu: a row is read once and held in registers (ops/cuda/row.h).
#include "ops/cuda/row.h"
#include "ops/l2_normalize.h"

namespace sq::kernel {
namespace {

using cuda::Wide;

template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) forward(L2NormalizeForward::Arguments<T> a) {
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
  const W length = cuda::sqrt(S::sum(squares)), least = static_cast<W>(a.epsilon);
  const W r = 1 / (length < least ? least : length);  // a NaN stays
  if (mine && S::place() == 0) a.r[row] = r;
  x.each([&](std::int64_t c, int, const auto& v) {
    Values<T, P> y;
#pragma unroll
    for (int i = 0; i < P; ++i) y[i] = v[0][i] * r;
    y.store(a.y + begin + c);
  });
}

/// dx = r·(dy - y·Σ y·dy); without the second term where the length was below ε.
template <class S, class T>
__global__ void __launch_bounds__(kRowThreads) backward(L2NormalizeBackward::Arguments<T> a) {
  using W = Wide<T>;
  constexpr int P = S::template pack<T>;
  const std::int64_t row = cuda::block_index() * S::kGroups + S::group();
  const bool mine = row < a.rows;
  const std::int64_t begin = mine ? row * a.columns : 0;
  const RowParts<T, S, 2> parts({a.y + begin, a.dy + begin}, mine ? a.columns : 0);
  const W r = mine ? a.r[row] : W(0), most = 1 / static_cast<W>(a.epsilon);
  W products = 0;
  parts.each([&](std::int64_t, int, const auto& v) {
#pragma unroll
    for (int i = 0; i < P; ++i) products += v[0][i] * v[1][i];
  });
  const W sum = S::sum(products), along = r < most ? sum : W(0);
  parts.each([&](std::int64_t c, int, const auto& v) {
    Values<T, P> dx;
#pragma unroll
    for (int i = 0; i < P; ++i) dx[i] = r * (v[1][i] - v[0][i] * along);
    dx.store(a.dx + begin + c);
  });
}

}  // namespace

template <class T>
void L2NormalizeForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  visit_spread<T>(a.columns, cuda::is_aligned(a.x) && cuda::is_aligned(a.y), [&]<class S>() {
    cuda::launch_kernel(context, name, forward<S, T>,
                        {.blocks = cuda::blocks_for(a.rows, S::kGroups), .threads = kRowThreads}, a);
  });
}
template void L2NormalizeForward::cuda(const cuda::Context&, const Arguments<float>&);
template void L2NormalizeForward::cuda(const cuda::Context&, const Arguments<double>&);
template void L2NormalizeForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void L2NormalizeForward::cuda(const cuda::Context&, const Arguments<f16>&);

template <class T>
void L2NormalizeBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const bool aligned = cuda::is_aligned(a.y) && cuda::is_aligned(a.dy) && cuda::is_aligned(a.dx);
  visit_spread<T>(a.columns, aligned, [&]<class S>() {
    cuda::launch_kernel(context, name, backward<S, T>,
                        {.blocks = cuda::blocks_for(a.rows, S::kGroups), .threads = kRowThreads}, a);
  });
}
template void L2NormalizeBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void L2NormalizeBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void L2NormalizeBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void L2NormalizeBackward::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
