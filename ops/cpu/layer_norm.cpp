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

#include <algorithm>
#include <cmath>

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

/// Σ_c u and Σ_c u·(x - mean) with u = dy·g, in two chains each.
template <class T>
struct SlopeSums {
  T u, ux;

  SlopeSums(const T* HWY_RESTRICT x, const T* HWY_RESTRICT dy, const T* HWY_RESTRICT gain, T mean, std::int64_t count) {
    const hn::ScalableTag<T> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto centre = hn::Set(d, mean);
    auto u0 = hn::Zero(d), u1 = u0, ux0 = u0, ux1 = u0;
    const auto add = [&](std::int64_t c, auto& u_sum, auto& ux_sum) HWY_ATTR {
      const auto slope = hn::Mul(hn::LoadU(d, dy + c), hn::LoadU(d, gain + c));
      u_sum = hn::Add(u_sum, slope);
      ux_sum = hn::MulAdd(slope, hn::Sub(hn::LoadU(d, x + c), centre), ux_sum);
    };
    std::int64_t c = 0;
    for (; c + 2 * lanes <= count; c += 2 * lanes) {
      add(c, u0, ux0);
      add(c + lanes, u1, ux1);
    }
    if (c + lanes <= count) {
      add(c, u0, ux0);
      c += lanes;
    }
    u = hn::GetLane(hn::SumOfLanes(d, hn::Add(u0, u1)));
    ux = hn::GetLane(hn::SumOfLanes(d, hn::Add(ux0, ux1)));
    for (; c < count; ++c) {
      u += dy[c] * gain[c];
      ux += dy[c] * gain[c] * (x[c] - mean);
    }
  }
};

/// dx = r · (u - mean_c u - x̂ · mean_c(u·x̂)) with u = dy·g, where kSlopes; dg += dy·x̂ and db += dy, where kSums.
template <bool kSlopes, bool kSums, class T>
void backward_row(const LayerNormBackward::Arguments<T>& a, std::int64_t row, T* HWY_RESTRICT dgain,
                  T* HWY_RESTRICT dbias) {
  const T *x = a.x + row * a.columns, *dy = a.dy + row * a.columns;
  T* HWY_RESTRICT dx = kSlopes ? a.dx + row * a.columns : nullptr;
  const T mean = a.mean[row], r = a.r[row];
  T mean_u = 0, mean_ux = 0;
  if constexpr (kSlopes) {
    const SlopeSums<T> sums(x, dy, a.gain, mean, a.columns);
    mean_u = sums.u / static_cast<T>(a.columns);
    mean_ux = sums.ux * r / static_cast<T>(a.columns);
  }
  for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
    const auto upstream = hn::LoadU(d, dy + c);
    const auto normal = hn::Mul(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, mean)), hn::Set(d, r));
    if constexpr (kSlopes) {
      const auto u = hn::Mul(upstream, hn::LoadU(d, a.gain + c));
      const auto inner = hn::NegMulAdd(normal, hn::Set(d, mean_ux), hn::Sub(u, hn::Set(d, mean_u)));
      hn::StoreU(hn::Mul(hn::Set(d, r), inner), d, dx + c);
    }
    if constexpr (kSums) {
      hn::StoreU(hn::MulAdd(upstream, normal, hn::LoadU(d, dgain + c)), d, dgain + c);
      hn::StoreU(hn::Add(upstream, hn::LoadU(d, dbias + c)), d, dbias + c);
    }
  });
}

template <class T>
void backward(const LayerNormBackward::Arguments<T>& a) {
  const bool sums_wanted = a.dgain || a.dbias;
  const std::int64_t grain = std::max<std::int64_t>(16, cpu::block_count(a.rows, 64));  // at most 64 partial sums
  const std::int64_t blocks = cpu::block_count(a.rows, grain);
  Tensor partial = sums_wanted ? Tensor::empty({blocks, 2, a.columns}, {.dtype = dtype_of<T>()}) : Tensor();
  T* sums = sums_wanted ? partial.data<T>() : nullptr;
  cpu::parallel_for(a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    T *dgain = sums + begin / grain * 2 * a.columns, *dbias = dgain + a.columns;
    if (sums_wanted) std::fill_n(dgain, 2 * a.columns, T{});
    for (std::int64_t row = begin; row < end; ++row) {
      if (a.dx && sums_wanted)
        backward_row<true, true>(a, row, dgain, dbias);
      else if (a.dx)
        backward_row<true, false>(a, row, dgain, dbias);
      else if (sums_wanted)
        backward_row<false, true>(a, row, dgain, dbias);
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
