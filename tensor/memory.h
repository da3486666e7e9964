// tensor/memory.h: moving values between tensors; no gradients here.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// Every element of `target` becomes `value` (converted to its dtype). Any strides.
void fill_(Tensor& target, double value);
/// target ← source, elementwise; same shape, any strides and devices, dtypes converted (floats round to nearest; a
/// float becomes the next integer towards 0 that the dtype holds, NaN becomes 0). Throws Error when the shapes differ.
/// A copy from a GPU to the host waits for the GPU; all other work given to a GPU runs later than the call.
void copy_(Tensor& target, const Tensor& source);
/// target ← target + source; same shape and dtype, any strides; f32, f64, bf16 or f16.
void accumulate_(Tensor& target, const Tensor& source);
/// A new row-major tensor with the values of `source`, converted to `dtype` when given.
Tensor packed_copy(const Tensor& source);
Tensor packed_copy(const Tensor& source, DType dtype);
/// The values of `source` on `device`: `source` itself when it is there, else a row-major copy.
Tensor moved(const Tensor& source, Device device);
/// `source` itself when it is row-major, else a packed copy.
Tensor packed(const Tensor& source);
/// True when every element is finite (integers always are).
bool all_finite(const Tensor& tensor);
/// True when both have the same shape, dtype and bits.
bool bit_equal(const Tensor& a, const Tensor& b);

}  // namespace sq
