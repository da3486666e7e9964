// tensor/cuda/memory.h: tensor/memory.h for tensors on one GPU. tensor/memory.cpp checks, and calls.
#pragma once

#include "tensor/cuda/context.h"
#include "tensor/tensor.h"

namespace sq::cuda {

/// Every element of `target` becomes `value`. Any strides.
void fill(const Context& context, Tensor& target, double value);
/// target ← source: same shape and device, any strides and dtypes.
void copy(const Context& context, Tensor& target, const Tensor& source);
/// target ← target + source: same shape, device and float dtype, any strides.
void accumulate(const Context& context, Tensor& target, const Tensor& source);
/// Both row-major and of one dtype, on different GPUs.
void copy_devices(Tensor& target, const Tensor& source, std::size_t bytes);
/// For `count` matrices c [m,n], each `stride` elements behind the one before, with rows every `ldc`:
/// c ← β·c + bias, the bias [n] or none. With β = 0, c is not read. f32, f64, bf16, f16.
template <class T>
void scale_and_add_rows(const Context& context, std::int64_t count, std::int64_t stride, std::int64_t m, std::int64_t n,
                        T* c, std::int64_t ldc, double beta, const T* bias);
/// Waits for the answer.
bool all_finite(const Context& context, const Tensor& tensor);

}  // namespace sq::cuda
