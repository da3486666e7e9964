#include "ops/gradient_norm.h"

#include "ops/dispatch.h"
#include "tensor/memory.h"

#include <algorithm>
#include <cmath>

namespace sq {

double gradient_norm(std::span<const Tensor> gradients) {
  double squares = 0;
  for (const Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    require(is_float(gradient.dtype()), "gradient_norm", "{} does not hold floats", gradient);
    const Tensor values = computes_in_f32(gradient) ? packed_copy(gradient, DType::f32) : packed(gradient);
    double own = 0;
    visit_float(values.dtype(), "gradient_norm", [&]<class T>() {
      launch<kernel::SumOfSquares>(
          values.device(),
          kernel::SumOfSquares::Arguments<T>{.count = values.numel(), .x = values.data<T>(), .result = &own});
    });
    squares += own;
  }
  return std::sqrt(squares);
}

double clip_factor(double norm, double most) {
  require(most > 0, "clip_factor", "the largest norm {} is not positive", most);
  require(std::isfinite(norm), "clip_factor", "the norm is {}; leave this update out", norm);
  return std::min(1.0, most / (norm + 1e-6));
}

void scale_(std::span<Tensor> tensors, double factor) {
  if (factor == 1) return;
  for (Tensor& tensor : tensors) {
    require(is_float(tensor.dtype()), "scale", "{} does not hold floats", tensor);
    const bool direct = tensor.is_contiguous() && !computes_in_f32(tensor);
    Tensor values = direct ? tensor : packed_copy(tensor, computes_in_f32(tensor) ? DType::f32 : tensor.dtype());
    visit_float(values.dtype(), "scale", [&]<class T>() {
      launch<kernel::Scale>(values.device(), kernel::Scale::Arguments<T>{
                                                 .count = values.numel(), .factor = factor, .x = values.data<T>()});
    });
    if (direct)
      tensor.mark_changed();
    else
      copy_(tensor, values);
  }
}

}  // namespace sq
