#include "ops/index.h"

#include "tensor/memory.h"

namespace sq {

Tensor checked_index(std::string_view op, const Tensor& index, std::int64_t extent, const std::int64_t* ignored) {
  require(index.dtype() == DType::i64 || index.dtype() == DType::i32, op, "indices must be i64 or i32, not {}", index);
  const Tensor result = index.dtype() == DType::i64 ? packed(index) : packed_copy(index, DType::i64);
  if (!result.device().is_cpu()) return result;
  const std::int64_t* values = result.data<std::int64_t>();
  for (std::int64_t i = 0; i < result.numel(); ++i) {
    if (values[i] >= 0 && values[i] < extent) [[likely]]
      continue;
    require(ignored && values[i] == *ignored, op, "index {} at place {} is outside 0 … {}", values[i], i, extent - 1);
  }
  return result;
}

}  // namespace sq
