#include "ops/dropout.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "tensor/memory.h"

namespace sq {
namespace {

Tensor masked(const Tensor& x, double p, std::uint64_t seed, std::uint64_t stream) {
  const Tensor input = packed(x);
  Tensor y = Tensor::empty_like(x);
  visit_float(x, "dropout", [&]<class T>() {
    launch<kernel::Dropout>(
        x.device(),
        kernel::Dropout::Arguments<T>{
            .count = x.numel(), .x = input.data<T>(), .seed = seed, .stream = stream, .p = p, .y = y.data<T>()});
  });
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  require(p >= 0 && p < 1, "dropout", "p {} is outside [0, 1)", p);
  if (p == 0) return x;
  if (computes_in_f32(x)) return cast(dropout(cast(x, DType::f32), p, generator), x.dtype());

  const std::uint64_t seed = generator.seed, stream = generator.take_stream();
  return record("dropout", {x}, masked(x, p, seed, stream), {},
                [=](const Saved&, const Tensor& dy) -> Gradients { return {masked(dy, p, seed, stream)}; });
}

}  // namespace sq
