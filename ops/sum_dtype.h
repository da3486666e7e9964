// ops/sum_dtype.h: the dtype of statistics and sums.
#pragma once

#include "tensor/dtype.h"

namespace sq {

/// The dtype of Accumulator<T> for a float T: f64 for f64, else f32.
constexpr DType sum_dtype(DType d) { return d == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace sq
