// ops/cast.h
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// The same values as another dtype, rounded to nearest; `x` itself when it has that dtype already. Between floats the
/// gradient is cast back: dx = cast(dy). To or from integers nothing is differentiated.
Tensor cast(const Tensor& x, DType dtype);

/// The same values on another device; `x` itself when it is there already. Any dtype and strides. dx = to(dy,
/// x.device()).
Tensor to(const Tensor& x, Device device);

/// An f32 operand of a product in the dtype of the Autocast in force (autograd/autocast.h); any other tensor, and every
/// one without an Autocast, as it is.
Tensor autocast(const Tensor& x);

}  // namespace sq
