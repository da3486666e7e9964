#include "ops/cast.h"

#include "autograd/autocast.h"
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

Tensor to(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  return record("to", {x}, moved(x, device), {},
                [from = x.device()](const Saved&, const Tensor& dy) -> Gradients { return {moved(dy, from)}; });
}

Tensor autocast(const Tensor& x) { return x.defined() && x.dtype() == DType::f32 ? cast(x, autocast_dtype()) : x; }

}  // namespace sq
