// ops/cpu/cross_entropy.cpp: rows in parallel. Forward reads a row of logits from memory once (largest value) and from
// the cache once (sum of exponentials); backward turns logits into gradients in one pass.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/cross_entropy.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/cross_entropy.h"

#include "ops/cpu/vector-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/threads.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

inline std::int64_t rows_per_block(std::int64_t columns) { return (1 << 13) / std::max<std::int64_t>(columns, 1); }

template <class T>
void forward(const CrossEntropyForward::Arguments<T>& a) {
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      if (a.targets[row] == a.ignore_index) {
        a.losses[row] = 0;
        if (a.lse) a.lse[row] = 0;
        continue;
      }
      const T* z = a.logits + row * a.columns;
      const T shift = maximum(z, a.columns);
      const T total = sum_lanes<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        return exp(d, hn::Sub(hn::LoadU(d, z + c), hn::Set(d, shift)));
      });
      // total >= 1 unless the row holds a NaN or an infinity that leaves no distribution.
      const double log_total = total > 0 ? std::log(static_cast<double>(total)) : std::nan("");
      // Differences to the largest value first: they keep their digits where the logits are large.
      double expected = static_cast<double>(z[a.targets[row]]) - static_cast<double>(shift);
      if (a.label_smoothing > 0) {
        const double mean = static_cast<double>(sum_lanes<T>(
                                a.columns, [&](auto d, std::int64_t c)
                                               HWY_ATTR { return hn::Sub(hn::LoadU(d, z + c), hn::Set(d, shift)); })) /
                            static_cast<double>(a.columns);
        expected += a.label_smoothing * (mean - expected);
      }
      a.losses[row] = static_cast<T>(log_total - expected);
      if (a.lse) a.lse[row] = static_cast<T>(static_cast<double>(shift) + log_total);
    }
  });
}

template <class T>
void backward(const CrossEntropyBackward::Arguments<T>& a) {
  const double share = (a.dy ? static_cast<double>(*a.dy) : 1.0) / *a.counted;
  const T scale = static_cast<T>(share);
  const T spread = static_cast<T>(share * a.label_smoothing / static_cast<double>(a.columns));
  cpu::parallel_for(a.rows, rows_per_block(a.columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const T* z = a.logits + row * a.columns;
      T* dz = a.dlogits + row * a.columns;
      if (a.targets[row] == a.ignore_index) {
        std::fill_n(dz, a.columns, T{});
        continue;
      }
      const T lse = a.lse[row], factor = std::isnan(lse) ? lse : scale;  // Exp alone makes a NaN 0
      for_each_lane<T>(a.columns, [&](auto d, std::int64_t c) HWY_ATTR {
        const auto p = exp(d, hn::Sub(hn::LoadU(d, z + c), hn::Set(d, lse)));
        hn::StoreU(hn::MulSub(p, hn::Set(d, factor), hn::Set(d, spread)), d, dz + c);
      });
      dz[a.targets[row]] -= static_cast<T>(share * (1 - a.label_smoothing));
    }
  });
}

Versions<CrossEntropyForward> cross_entropy_forward() { return {forward<float>, forward<double>}; }
Versions<CrossEntropyBackward> cross_entropy_backward() { return {backward<float>, backward<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(cross_entropy_forward);
HWY_EXPORT(cross_entropy_backward);

template <class T>
void CrossEntropyForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(cross_entropy_forward)()(a);
}
template void CrossEntropyForward::cpu(const Arguments<float>&);
template void CrossEntropyForward::cpu(const Arguments<double>&);

template <class T>
void CrossEntropyBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(cross_entropy_backward)()(a);
}
template void CrossEntropyBackward::cpu(const Arguments<float>&);
template void CrossEntropyBackward::cpu(const Arguments<double>&);

void CountTargets::cpu(const Arguments<double>& a) {
  *a.counted = static_cast<double>(a.count - std::count(a.targets, a.targets + a.count, a.ignore_index));
}

template <class T>
void MeanLoss::cpu(const Arguments<T>& a) {
  double total = 0;
  for (std::int64_t i = 0; i < a.count; ++i) total += static_cast<double>(a.losses[i]);
  *a.mean = static_cast<T>(total / *a.counted);
}
template void MeanLoss::cpu(const Arguments<float>&);
template void MeanLoss::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
