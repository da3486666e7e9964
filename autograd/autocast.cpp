#include "autograd/autocast.h"

#include "tensor/error.h"

namespace sq {
namespace {
thread_local DType products = DType::f32;
}  // namespace

DType autocast_dtype() { return products; }

Autocast::Autocast(DType dtype) : before_(products) {
  require(dtype == DType::f32 || is_half(dtype), "autocast", "dtype {} is not offered; use f32, bf16 or f16",
          name(dtype));
  products = dtype;
}
Autocast::~Autocast() { products = before_; }

}  // namespace sq
