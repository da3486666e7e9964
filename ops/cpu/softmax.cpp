// ops/cpu/softmax.cpp: rows in parallel; a row is read from memory once and then from the cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/softmax.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/softmax.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

inline std::int64_t rows_per_block(std::int64_t columns) { return (1 << 13) / std::max<std::int64_t>(columns, 1); }

template <class T>
void forward(const SoftmaxForward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = a.x + row * a.columns;
      T* y = a.y + row * a.columns;
      const T shift = maximum(x, a.columns), total = exp_shifted(x, shift, y, a.columns);
      // A total of 0 comes from a shift of ±∞ or NaN only; then 1/0 and ln 0 must end as NaN.
      const T factor = total > 0 ? 1 / total : std::numeric_limits<T>::quiet_NaN();
      const T log_total = total > 0 ? std::log(total) : factor;
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        if (a.log)
          hn::StoreU(hn::Sub(hn::Sub(hn::LoadU(d, x + c), hn::Set(d, shift)), hn::Set(d, log_total)), d, y + c);
        else
          hn::StoreU(hn::Mul(hn::LoadU(d, y + c), hn::Set(d, factor)), d, y + c);
      });
    }
  });
}

template <class T>
void backward(const SoftmaxBackward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T *y = a.y + row * a.columns, *dy = a.dy + row * a.columns;
      T* dx = a.dx + row * a.columns;
      const T total = a.log ? sum(dy, a.columns) : dot(dy, y, a.columns);
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        const auto value = hn::LoadU(d, y + c), upstream = hn::LoadU(d, dy + c), s = hn::Set(d, total);
        hn::StoreU(a.log ? hn::NegMulAdd(exp(d, value), s, upstream) : hn::Mul(value, hn::Sub(upstream, s)), d, dx + c);
      });
    }
  });
}

Versions<SoftmaxForward> softmax_forward() { return {forward<float>, forward<double>}; }
Versions<SoftmaxBackward> softmax_backward() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(softmax_forward);
HWY_EXPORT(softmax_backward);

template <class T>
void SoftmaxForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(softmax_forward)()(a);
}
template void SoftmaxForward::cpu(const Arguments<float>&);
template void SoftmaxForward::cpu(const Arguments<double>&);

template <class T>
void SoftmaxBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(softmax_backward)()(a);
}
template void SoftmaxBackward::cpu(const Arguments<float>&);
template void SoftmaxBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
