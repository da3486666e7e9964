// ops/cuda/elementwise.cu: every function goes through map (tensor/cuda/map.h): 16 bytes of each operand a thread, or
// an element a thread where strides demand it. Which function it is, a thread asks once for all its elements: the
// memory takes longer, and there is one kernel a dtype instead of one a function.
#include "ops/elementwise.h"
#include "tensor/cuda/kernel.h"
#include "tensor/cuda/map.h"

namespace sq::kernel {
namespace {

using cuda::exp;
using cuda::is_nan;
using cuda::log;
using cuda::normal_cdf;
using cuda::power;
using cuda::select;
using cuda::sqrt;
using cuda::tanh;

#include "ops/functors-inl.h"

struct UnaryValue {
  Unary function;
  double c;
  template <class W, int P>
  __device__ void operator()(const W (&in)[1][P], W (&out)[P]) const {
    with_functor(function, c, [&]<class F>(F) {
      for (int i = 0; i < P; ++i) out[i] = F::value(in[0][i], W(c));
    });
  }
};

struct UnaryGradient {  // of (saved, dy)
  Unary function;
  double c;
  template <class W, int P>
  __device__ void operator()(const W (&in)[2][P], W (&out)[P]) const {
    with_functor(function, c, [&]<class F>(F) {
      for (int i = 0; i < P; ++i) out[i] = in[1][i] * F::derivative(in[0][i], W(c));
    });
  }
};

struct BinaryValue {
  Binary function;
  template <class W, int P>
  __device__ void operator()(const W (&in)[2][P], W (&out)[P]) const {
    with_functor(function, [&]<class F>(F) {
      for (int i = 0; i < P; ++i) out[i] = F::value(in[0][i], in[1][i]);
    });
  }
};

struct BinaryGradient {  // of (a, b, dy)
  Binary function;
  bool of_b;
  template <class W, int P>
  __device__ void operator()(const W (&in)[3][P], W (&out)[P]) const {
    with_functor(function, [&]<class F>(F) {
      for (int i = 0; i < P; ++i)
        out[i] = in[2][i] * (of_b ? F::derivative_b(in[0][i], in[1][i]) : F::derivative_a(in[0][i], in[1][i]));
    });
  }
};

/// A null operand is a row of zeros. One thread an element.
template <class T>
__global__ void where_kernel(cuda::Walk<3> walk, std::int64_t count, const std::uint8_t* condition, const T* a,
                             const T* b, T* y) {
  const std::int64_t i = cuda::global_index();
  if (i >= count) return;
  std::int64_t at[3];
  walk.locate(i, at);
  const T* chosen = condition[at[0]] ? a : b;
  y[i] = chosen ? chosen[condition[at[0]] ? at[1] : at[2]] : cuda::narrow<T>(0);
}

}  // namespace

template <class T>
void UnaryForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::map<T, 1>(context, label(a), a.shape, {a.x}, {a.x_strides}, a.y, UnaryValue{a.function, a.c});
}
template <class T>
void UnaryBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::map<T, 2>(context, label(a), a.shape, {a.saved, a.dy}, {a.saved_strides, a.dy_strides}, a.dx,
                  UnaryGradient{a.function, a.c});
}
template <class T>
void BinaryForward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::map<T, 2>(context, label(a), a.shape, {a.a, a.b}, {a.a_strides, a.b_strides}, a.y, BinaryValue{a.function});
}
template <class T>
void BinaryBackward::cuda(const cuda::Context& context, const Arguments<T>& a) {
  cuda::map<T, 3>(context, label(a), a.shape, {a.a, a.b, a.dy}, {a.a_strides, a.b_strides, a.dy_strides}, a.gradient,
                  BinaryGradient{a.function, a.of_b});
}
template <class T>
void Where::cuda(const cuda::Context& context, const Arguments<T>& a) {
  const std::int64_t count = a.shape.numel();
  const cuda::Walk<3> walk(a.shape, {a.condition_strides, a.a_strides, a.b_strides});
  cuda::launch_kernel(context, name, where_kernel<T>, {.blocks = cuda::blocks_for(count, 256)}, walk, count,
                      a.condition, a.a, a.b, a.y);
}

template void UnaryForward::cuda(const cuda::Context&, const Arguments<float>&);
template void UnaryForward::cuda(const cuda::Context&, const Arguments<double>&);
template void UnaryForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void UnaryForward::cuda(const cuda::Context&, const Arguments<f16>&);

template void UnaryBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void UnaryBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void UnaryBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void UnaryBackward::cuda(const cuda::Context&, const Arguments<f16>&);

template void BinaryForward::cuda(const cuda::Context&, const Arguments<float>&);
template void BinaryForward::cuda(const cuda::Context&, const Arguments<double>&);
template void BinaryForward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void BinaryForward::cuda(const cuda::Context&, const Arguments<f16>&);

template void BinaryBackward::cuda(const cuda::Context&, const Arguments<float>&);
template void BinaryBackward::cuda(const cuda::Context&, const Arguments<double>&);
template void BinaryBackward::cuda(const cuda::Context&, const Arguments<bf16>&);
template void BinaryBackward::cuda(const cuda::Context&, const Arguments<f16>&);

template void Where::cuda(const cuda::Context&, const Arguments<float>&);
template void Where::cuda(const cuda::Context&, const Arguments<double>&);
template void Where::cuda(const cuda::Context&, const Arguments<bf16>&);
template void Where::cuda(const cuda::Context&, const Arguments<f16>&);

}  // namespace sq::kernel
