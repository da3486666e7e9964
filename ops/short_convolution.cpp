#include "ops/short_convolution.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "tensor/memory.h"

namespace sq {
namespace {

constexpr std::string_view kName = "short_convolution";

void check(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& first) {
  require_same_kind(kName, {x, weight});
  require(x.rank() == 3, kName, "x {} is not [B,T,C]", x);
  require(weight.rank() == 2 && weight.size(0) == x.size(2), kName, "weight {} is not [C,W] for x {}", weight, x);
  constexpr std::int64_t kMost = kernel::ShortConvolutionProblem::kMostTaps;
  require(weight.size(1) >= 1 && weight.size(1) <= kMost, kName, "weight {} has {} taps but must have 1 … {}", weight,
          weight.size(1), kMost);
  if (bias.defined()) {
    require_same_kind(kName, {x, bias});
    require(bias.shape() == Shape{x.size(2)}, kName, "bias {} is not [C] for x {}", bias, x);
  }
  if (first.defined()) {
    require_same_kind(kName, {x, first});
    require(first.shape() == Shape{x.size(0), weight.size(1) - 1, x.size(2)}, kName,
            "first {} is not [B,W-1,C] for x {} and weight {}", first, x, weight);
  }
}

/// [C,W] ↔ [W,C], packed: kernels run along channels.
Tensor turned(const Tensor& matrix) {
  const Shape& s = matrix.strides();
  return packed_copy(matrix.alias({matrix.size(1), matrix.size(0)}, {s[1], s[0]}, 0));
}

template <class T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}
template <class T>
T* data_or_null(Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

Gradients backward(const kernel::ShortConvolutionProblem& p, const Saved& saved, const Tensor& dy) {
  const Tensor &x = saved[0], &weight = saved[1], &first = saved[2], upstream = packed(dy);
  Tensor dx = saved.wants(0) ? Tensor::empty_like(x) : Tensor();
  Tensor dweights = saved.wants(1) || saved.wants(2) ? Tensor::empty({p.taps + 1, p.channels}, x.options()) : Tensor();
  Tensor dfirst = first.defined() && saved.wants(3) ? Tensor::empty_like(first) : Tensor();
  visit_float(x, kName, [&]<class T>() {
    using Kernel = kernel::ShortConvolutionBackward;
    launch<Kernel>(x.device(), Kernel::Arguments<T>{.problem = p,
                                                    .x = x.data<T>(),
                                                    .first = data_or_null<T>(first),
                                                    .weight = weight.data<T>(),
                                                    .dy = upstream.data<T>(),
                                                    .dx = data_or_null<T>(dx),
                                                    .dfirst = data_or_null<T>(dfirst),
                                                    .dweights = data_or_null<T>(dweights)});
  });
  const auto part = [&](std::int64_t row, const Shape& shape, const Shape& strides) {
    return dweights.alias(shape, strides, row * p.channels);
  };
  return {dx, saved.wants(1) ? turned(part(0, {p.taps, p.channels}, {p.channels, 1})) : Tensor(),
          saved.wants(2) ? packed_copy(part(p.taps, {p.channels}, {1})) : Tensor(), dfirst};
}

}  // namespace

Tensor short_convolution(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& first) {
  check(x, weight, bias, first);
  if (computes_in_f32(x)) {
    const auto wide = [](const Tensor& t) { return t.defined() ? cast(t, DType::f32) : t; };
    return cast(short_convolution(wide(x), wide(weight), wide(bias), wide(first)), x.dtype());
  }
  const kernel::ShortConvolutionProblem p{x.size(0), x.size(1), x.size(2), weight.size(1)};
  const Tensor input = packed(x), taps = turned(weight);
  const Tensor before = first.defined() ? packed(first) : Tensor(), offset = bias.defined() ? packed(bias) : Tensor();
  Tensor y = Tensor::empty_like(input);
  visit_float(x, kName, [&]<class T>() {
    using Kernel = kernel::ShortConvolutionForward;
    launch<Kernel>(x.device(), Kernel::Arguments<T>{.problem = p,
                                                    .x = input.data<T>(),
                                                    .first = data_or_null<T>(before),
                                                    .weight = taps.data<T>(),
                                                    .bias = data_or_null<T>(offset),
                                                    .y = y.data<T>()});
  });
  return record(kName, {x, weight, bias, first}, y, {input, taps, before},
                [p](const Saved& saved, const Tensor& dy) { return backward(p, saved, dy); });
}

}  // namespace sq
