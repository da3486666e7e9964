// ops/cpu/l2_normalize.cpp: rows in parallel, each read twice while it is in the first-level cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/l2_normalize.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/l2_normalize.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {
namespace {

/// Rows are short, often the 64 features of a head: enough of them together to be worth handing out.
std::int64_t rows_per_block(std::int64_t columns) { return std::max<std::int64_t>(16, 16384 / columns); }

template <class T>
void forward(const L2NormalizeForward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* x = a.x + row * a.columns;
      T* y = a.y + row * a.columns;
      const double length = std::sqrt(static_cast<double>(dot(x, x, a.columns)));
      const T r = static_cast<T>(1 / (length > a.epsilon || std::isnan(length) ? length : a.epsilon));
      a.r[row] = r;
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c)
                                      HWY_ATTR { hn::StoreU(hn::Mul(hn::LoadU(d, x + c), hn::Set(d, r)), d, y + c); });
    }
  });
}

/// dx = r·(dy - y·Σ y·dy); without the second term where the length was below ε.
template <class T>
void backward(const L2NormalizeBackward::Arguments<T>& a) {
  const T most = static_cast<T>(1 / a.epsilon);
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) HWY_ATTR {
    for (std::int64_t row = begin; row < end; ++row) {
      const T *y = a.y + row * a.columns, *dy = a.dy + row * a.columns;
      T* HWY_RESTRICT dx = a.dx + row * a.columns;
      const T r = a.r[row], along = r < most ? dot(y, dy, a.columns) : T(0);
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        const auto across = hn::NegMulAdd(hn::LoadU(d, y + c), hn::Set(d, along), hn::LoadU(d, dy + c));
        hn::StoreU(hn::Mul(across, hn::Set(d, r)), d, dx + c);
      });
    }
  });
}

}  // namespace

Versions<L2NormalizeForward> l2_normalize_forward_versions() { return {forward<float>, forward<double>}; }
Versions<L2NormalizeBackward> l2_normalize_backward_versions() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(l2_normalize_forward_versions);
HWY_EXPORT(l2_normalize_backward_versions);

template <class T>
void L2NormalizeForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(l2_normalize_forward_versions)()(a);
}
template void L2NormalizeForward::cpu(const Arguments<float>&);
template void L2NormalizeForward::cpu(const Arguments<double>&);

template <class T>
void L2NormalizeBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(l2_normalize_backward_versions)()(a);
}
template void L2NormalizeBackward::cpu(const Arguments<float>&);
template void L2NormalizeBackward::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
