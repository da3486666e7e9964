// autograd/autocast.h: mixed precision: which dtype products are made in.
#pragma once

#include "tensor/dtype.h"

namespace sq {

/// The dtype of the Autocast in force on this thread; f32 without one.
DType autocast_dtype();

/// While alive, layers round the operands of their matrix products, and with them attention and what lies between, to a
/// 16-bit float; sums are still made in f32. Parameters, their gradients, the residual stream, norms and losses stay
/// f32 (Micikevicius et al. 2018, "Mixed Precision Training"). Wrap the forward pass; the backward pass follows by
/// itself.
class Autocast {
 public:
  /// f32 switches it off, bf16 and f16 on. Throws Error for any other dtype.
  explicit Autocast(DType dtype);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  DType before_;
};

}  // namespace sq
