// ops/gradient_norm.h: the size of a gradient as a whole, and changing it. In place or plain numbers; nothing is
// recorded.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

#include <span>

namespace sq {

/// √(Σ over all tensors and elements of g²), summed in double in a fixed order, so that the bits do not depend on the
/// number of threads. Undefined tensors count as zeros. Floats of any dtype, any strides. A NaN or an infinity anywhere
/// gives a norm that is not finite, which is how a trainer finds out; so does a norm beyond the range of double.
/// Throws Error for integers.
double gradient_norm(std::span<const Tensor> gradients);

/// The factor min(1, most / (norm + 1e-6)) by which clipping to the norm `most` scales a gradient. Throws Error unless
/// `most` is positive and the norm finite: no factor makes a gradient with a NaN or an infinity usable.
double clip_factor(double norm, double most);

/// Every element times `factor`; floats of any dtype, any strides. Nothing is touched when the factor is 1.
void scale_(std::span<Tensor> tensors, double factor);

namespace kernel {

struct SumOfSquares {
  static constexpr std::string_view name = "gradient_norm";
  template <class T>
  struct Item {
    std::int64_t count;
    const T* x;  // [count]
  };
  template <class T>
  struct Arguments {
    std::span<const Item<T>> items;
    double* result;  // one number on the host
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    std::int64_t count = 0;
    for (const Item<T>& item : a.items) count += item.count;
    return Work::moving<T>(count);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct Scale {
  static constexpr std::string_view name = "scale";
  template <class T>
  struct Arguments {
    std::int64_t count;
    double factor;
    T* x;  // [count]
  };
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(2 * a.count);
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
