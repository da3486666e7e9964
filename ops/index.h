// ops/index.h: checking index tensors before a kernel trusts them.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// `index` (i32 or i64, any strides) as a packed i64 tensor. Throws Error naming `op` when the dtype is another, and
/// naming the value when one lies outside 0 … extent-1, unless it equals `*ignored`. Values on a GPU are not looked at,
/// since the host would have to wait for them: kernels take care of them (ops/cuda/gather.cu).
Tensor checked_index(std::string_view op, const Tensor& index, std::int64_t extent,
                     const std::int64_t* ignored = nullptr);

}  // namespace sq
