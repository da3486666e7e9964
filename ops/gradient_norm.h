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
/// A tensor of rank 0, f64, on the device of the gradients (on the default device when there are none), so that nothing
/// waits for a GPU before somebody reads it; adamw_step takes it as it is. Throws Error for integers.
Tensor gradient_norm(std::span<const Tensor> gradients);

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
    double* sum;  // one number, which is added to
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
