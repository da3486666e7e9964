// ops/cast.h
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// The same values as another dtype, rounded to nearest; `x` itself when it has that dtype already. Between floats the
/// gradient is cast back: dx = cast(dy). To or from integers nothing is differentiated.
Tensor cast(const Tensor& x, DType dtype);

}  // namespace sq
