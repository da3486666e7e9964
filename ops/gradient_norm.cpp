#include "ops/gradient_norm.h"

#include "autograd/grad_mode.h"
#include "ops/dispatch.h"
#include "ops/elementwise.h"
#include "tensor/memory.h"

#include <vector>

namespace sq {

namespace {

/// Adds Σ x² over the tensors of type T to `sum`.
template <class T>
void add_squares(const std::vector<Tensor>& tensors, Tensor& sum) {
  std::vector<kernel::SumOfSquares::Item<T>> items;
  for (const Tensor& x : tensors)
    if (x.dtype() == dtype_of<T>()) items.push_back({.count = x.numel(), .x = x.data<T>()});
  if (items.empty()) return;
  launch<kernel::SumOfSquares>(sum.device(),
                               kernel::SumOfSquares::Arguments<T>{.items = items, .sum = sum.data<double>()});
}

}  // namespace

Tensor gradient_norm(std::span<const Tensor> gradients) {
  const NoGrad unrecorded;
  std::vector<Tensor> values;
  for (const Tensor& gradient : gradients) {
    if (!gradient.defined()) continue;
    require(is_float(gradient.dtype()), "gradient_norm", "{} does not hold floats", gradient);
    values.push_back(computes_in_f32(gradient) ? packed_copy(gradient, DType::f32) : packed(gradient));
  }
  const Device device = values.empty() ? default_device() : values.front().device();
  Tensor sum = Tensor::scalar(0, {.dtype = DType::f64, .device = device});
  add_squares<float>(values, sum);
  add_squares<double>(values, sum);
  add_squares<bf16>(values, sum);
  add_squares<f16>(values, sum);
  return sqrt(sum);
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
