// ops/dropout.h
#pragma once

#include "tensor/profiler.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace sq {

/// y_i = x_i / (1 - p) where kept, 0 where dropped; each element is dropped with probability p, independently
/// (Srivastava et al. 2014, scaled in training so that the mean stays what it was).
/// Element i (its row-major number) is kept when random_uniform(seed, stream, i) >= p, with the next stream of
/// `generator`: the same on every device and for any number of threads. No mask is stored, nothing else is saved:
///   backward draws the same numbers again,  dx_i = dy_i / (1 - p) where kept.
/// x of any float dtype and any strides. For p = 0 the result is x itself and no stream is taken. Whether a model is
/// being trained is the caller's business. Throws Error unless 0 <= p < 1.
Tensor dropout(const Tensor& x, double p, Generator& generator = default_generator());

namespace kernel {

struct Dropout {
  static constexpr std::string_view name = "dropout";
  template <class T>
  struct Arguments {
    std::int64_t count;
    const T* x;  // [count]
    std::uint64_t seed, stream;
    double p;
    T* y;  // [count]
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
