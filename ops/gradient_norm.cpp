#include "ops/gradient_norm.h"

#include "ops/dispatch.h"
#include "tensor/memory.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace sq {

namespace {

/// Σ x² over the tensors of type T.
template <class T>
double sum_of_squares(const std::vector<Tensor>& tensors) {
  std::vector<kernel::SumOfSquares::Item<T>> items;
  for (const Tensor& x : tensors)
    if (x.dtype() == dtype_of<T>()) items.push_back({.count = x.numel(), .x = x.data<T>()});
  if (items.empty()) return 0;
  double result = 0;
  launch<kernel::SumOfSquares>(tensors.front().device(),
                               kernel::SumOfSquares::Arguments<T>{.items = items, .result = &result});
  return result;
}

}  // namespace

double gradient_norm(std::span<const Tensor> gradients) {
  std::vector<Tensor> values;
  for (const Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    require(is_float(gradient.dtype()), "gradient_norm", "{} does not hold floats", gradient);
    values.push_back(computes_in_f32(gradient) ? packed_copy(gradient, DType::f32) : packed(gradient));
  }
  return std::sqrt(sum_of_squares<float>(values) + sum_of_squares<double>(values) + sum_of_squares<bf16>(values) +
                   sum_of_squares<f16>(values));
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
    visit_float(values, "scale", [&]<class T>() {
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
