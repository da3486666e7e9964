// ops/cpu/layer_norm.cpp: rows in parallel, each read from memory once and then from the first-level cache. The
// gradients of gain and bias sum over rows: every block of rows makes its own partial sums, and the blocks are added in
// order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/layer_norm.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/layer_norm.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

template <class T>
void forward_row(const LayerNormForward::Arguments<T>& a, std::int64_t row) {
  const T* x = a.x + row * a.columns;
  T* y = a.y + row * a.columns;
  const T mean = sum(x, a.columns) / static_cast<T>(a.columns);
  const T squares = sum_lanes<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
    const auto distance = hn::Sub(hn::LoadU(d, x + c), hn::Set(d, mean));
    return hn::Mul(distance, distance);
  });
  const T r = static_cast<T>(1.0 / std::sqrt(squares / static_cast<double>(a.columns) + a.epsilon));
  a.mean[row] = mean;
  a.r[row] = r;
  for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
    const auto normal = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, mean)), hn::Set(d, r));
    const auto gain = hn::LoadU(d, a.gain + c);
    hn::StoreU(a.bias ? hn::MulAdd(normal, gain, hn::LoadU(d, a.bias + c)) : hn::Mul(normal, gain), d, y + c);
  });
}

template <class T>
void forward(const LayerNormForward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) forward_row(a, row);
  });
}

/// dx = r · (u - mean_c u - x̂ · mean_c(u·x̂)) with u = dy·g.
template <class T>
void backward_row(const LayerNormBackward::Arguments<T>& a, std::int64_t row) {
  const T *x = a.x + row * a.columns, *dy = a.dy + row * a.columns;
  T* dx = a.dx + row * a.columns;
  const T mean = a.mean[row], r = a.r[row];
  const T mean_u = dot(dy, a.gain, a.columns) / static_cast<T>(a.columns);
  const T mean_ux = sum_lanes<T>(a.columns,
                                 [&](auto d, std::int64_t c) HWY_ATTR {
                                   const auto u = hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, a.gain + c));
                                   return hn::Mul(u, hn::Sub(hn::LoadU(d, x + c), hn::Set(d, mean)));
                                 }) *
                    r / static_cast<T>(a.columns);
  for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
    const auto u = hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, a.gain + c));
    const auto normal = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, mean)), hn::Set(d, r));
    const auto inner = hn::NegMulAdd(normal, hn::Set(d, mean_ux), hn::Sub(u, hn::Set(d, mean_u)));
    hn::StoreU(hn::Mul(hn::Set(d, r), inner), d, dx + c);
  });
}

/// dg = Σ_rows dy·x̂ and db = Σ_rows dy, a row at a time.
template <class T>
void add_row(const LayerNormBackward::Arguments<T>& a, std::int64_t row, T* HWY_RESTRICT dgain, T* HWY_RESTRICT dbias) {
  const T *x = a.x + row * a.columns, *dy = a.dy + row * a.columns;
  for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
    const auto upstream = hn::LoadU(d, dy + c);
    const auto normal = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, a.mean[row])), hn::Set(d, a.r[row]));
    hn::StoreU(hn::MulAdd(upstream, normal, hn::LoadU(d, dgain + c)), d, dgain + c);
    hn::StoreU(hn::Add(upstream, hn::LoadU(d, dbias + c)), d, dbias + c);
  });
}

template <class T>
void backward(const LayerNormBackward::Arguments<T>& a) {
  const bool sums_wanted = a.dgain || a.dbias;
  const std::int64_t grain = std::max<std::int64_t>(16, cpu::block_count(a.rows, 128));  // at most 128 partial sums
  const std::int64_t blocks = cpu::block_count(a.rows, grain);
  Tensor partial = sums_wanted ? Tensor::zeros({blocks, 2, a.columns}, {.dtype = dtype_of<T>()}) : Tensor();
  T* sums = sums_wanted ? partial.data<T>() : nullptr;
  cpu::parallel_for(a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T* own = sums + begin / grain * 2 * a.columns;
    for (std::int64_t row = begin; row < end; ++row) {
      if (a.dx) backward_row(a, row);
      if (sums_wanted) add_row(a, row, own, own + a.columns);
    }
  });
  for (const std::int64_t which : {0, 1}) {
    T* target = which == 0 ? a.dgain : a.dbias;
    if (!target) continue;
    std::fill_n(target, a.columns, T{});
    for (std::int64_t block = 0; block < blocks; ++block)
      add_scaled(T{1}, sums + (2 * block + which) * a.columns, target, a.columns);
  }
}

Versions<LayerNormForward> layer_norm_forward() { return {forward<float>, forward<double>}; }
Versions<LayerNormBackward> layer_norm_backward() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(layer_norm_forward);
HWY_EXPORT(layer_norm_backward);

template <class T>
void LayerNormForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(layer_norm_forward)()(a);
}
template void LayerNormForward::cpu(const Arguments<float>&);
template void LayerNormForward::cpu(const Arguments<double>&);

template <class T>
void LayerNormBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(layer_norm_backward)()(a);
}
template void LayerNormBackward::cpu(const Arguments<float>&);
template void LayerNormBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
