#include "ops/cast.h"

#include "autograd/node.h"
#include "tensor/memory.h"

namespace sq {

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = packed_copy(x, dtype);
  if (!is_float(dtype) || !is_float(x.dtype())) return y;
  return record("cast", {x}, y, {},
                [from = x.dtype()](const Saved&, const Tensor& dy) -> Gradients { return {packed_copy(dy, from)}; });
}

}  // namespace sq
