#include "ops/swiglu.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/rows.h"

namespace sq {

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  require_same_kind("swiglu", {gate, up});
  require(gate.shape() == up.shape(), "swiglu", "gate {} and up {} differ in shape", gate, up);
  if (computes_in_f32(gate)) return cast(swiglu(cast(gate, DType::f32), cast(up, DType::f32)), gate.dtype());

  const Rows g = as_rows(gate), u = as_rows(up);
  Tensor y = Tensor::empty_like(gate);
  visit_float(gate, "swiglu", [&]<class T>() {
    launch<kernel::SwigluForward>(gate.device(), kernel::SwigluForward::Arguments<T>{.rows = g.rows,
                                                                                     .columns = g.columns,
                                                                                     .gate = g.tensor.data<T>(),
                                                                                     .gate_step = g.step,
                                                                                     .up = u.tensor.data<T>(),
                                                                                     .up_step = u.step,
                                                                                     .y = y.data<T>()});
  });
  return record("swiglu", {gate, up}, y, {g.tensor, u.tensor}, [](const Saved& saved, const Tensor& dy) -> Gradients {
    const Rows g = as_rows(saved[0]), u = as_rows(saved[1]), upstream = as_rows(dy);
    Tensor dgate = Tensor::empty_like(dy), dup = Tensor::empty_like(dy);
    visit_float(dy, "swiglu", [&]<class T>() {
      launch<kernel::SwigluBackward>(dy.device(), kernel::SwigluBackward::Arguments<T>{.rows = g.rows,
                                                                                       .columns = g.columns,
                                                                                       .gate = g.tensor.data<T>(),
                                                                                       .gate_step = g.step,
                                                                                       .up = u.tensor.data<T>(),
                                                                                       .up_step = u.step,
                                                                                       .dy = upstream.tensor.data<T>(),
                                                                                       .dy_step = upstream.step,
                                                                                       .dgate = dgate.data<T>(),
                                                                                       .dup = dup.data<T>()});
    });
    return {dgate, dup};
  });
}

}  // namespace sq
