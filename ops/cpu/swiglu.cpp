// ops/cpu/swiglu.cpp: one pass over the operands, rows in parallel.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/swiglu.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/swiglu.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

/// σ(x) through e^-|x|, which never overflows: 1/(1+e) for x >= 0, e/(1+e) below.
template <class D, class V>
HWY_INLINE V logistic(D d, V x) {
  const auto one = hn::Set(d, hn::TFromD<D>{1});
  const auto e = exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

inline std::int64_t rows_per_block(std::int64_t columns) { return (1 << 13) / std::max<std::int64_t>(columns, 1); }

template <class T>
void forward(const SwigluForward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T *gate = a.gate + row * a.gate_step, *up = a.up + row * a.up_step;
      T* y = a.y + row * a.columns;
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        const auto g = hn::LoadU(d, gate + c);
        hn::StoreU(hn::Mul(hn::Mul(g, logistic(d, g)), hn::LoadU(d, up + c)), d, y + c);
      });
    }
  });
}

template <class T>
void backward(const SwigluBackward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T *gate = a.gate + row * a.gate_step, *up = a.up + row * a.up_step, *dy = a.dy + row * a.dy_step;
      T *dgate = a.dgate + row * a.columns, *dup = a.dup + row * a.columns;
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        const auto g = hn::LoadU(d, gate + c), upstream = hn::LoadU(d, dy + c), s = logistic(d, g);
        const auto silu = hn::Mul(g, s);
        // σ(1 + g(1 - σ)) = σ + g·σ - g·σ·σ = σ + silu·(1 - σ)
        const auto slope = hn::NegMulAdd(silu, s, hn::Add(s, silu));
        hn::StoreU(hn::Mul(hn::Mul(upstream, hn::LoadU(d, up + c)), slope), d, dgate + c);
        hn::StoreU(hn::Mul(upstream, silu), d, dup + c);
      });
    }
  });
}

Versions<SwigluForward> swiglu_forward() { return {forward<float>, forward<double>}; }
Versions<SwigluBackward> swiglu_backward() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(swiglu_forward);
HWY_EXPORT(swiglu_backward);

template <class T>
void SwigluForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(swiglu_forward)()(a);
}
template void SwigluForward::cpu(const Arguments<float>&);
template void SwigluForward::cpu(const Arguments<double>&);

template <class T>
void SwigluBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(swiglu_backward)()(a);
}
template void SwigluBackward::cpu(const Arguments<float>&);
template void SwigluBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
