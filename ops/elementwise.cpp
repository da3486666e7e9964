#include "ops/elementwise.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/reduce.h"
#include "ops/view.h"

namespace sq {
namespace {

using kernel::Binary;
using kernel::Unary;

Tensor in_f32(const Tensor& x) { return cast(x, DType::f32); }

// --- one operand ---

enum class Save { nothing, input, result };

Tensor unary_backward(Unary function, const Tensor& saved, const Tensor& dy, double c, std::string_view op) {
  Tensor dx = Tensor::empty_like(dy);
  visit_float(dy, op, [&]<class T>() {
    launch<kernel::UnaryBackward>(dy.device(), kernel::UnaryBackward::Arguments<T>{.function = function,
                                                                                   .shape = dy.shape(),
                                                                                   .saved_strides = saved.strides(),
                                                                                   .dy_strides = dy.strides(),
                                                                                   .saved = saved.data<T>(),
                                                                                   .dy = dy.data<T>(),
                                                                                   .c = c,
                                                                                   .dx = dx.data<T>()});
  });
  return dx;
}

Tensor unary(std::string_view op, Unary function, const Tensor& x, double c, Save save) {
  if (computes_in_f32(x)) return cast(unary(op, function, in_f32(x), c, save), x.dtype());
  Tensor y = Tensor::empty_like(x);
  visit_float(x, op, [&]<class T>() {
    launch<kernel::UnaryForward>(x.device(), kernel::UnaryForward::Arguments<T>{.function = function,
                                                                                .shape = x.shape(),
                                                                                .x_strides = x.strides(),
                                                                                .x = x.data<T>(),
                                                                                .c = c,
                                                                                .y = y.data<T>()});
  });
  if (save == Save::nothing) return y;  // the caller records
  return record(op, {x}, y, {save == Save::input ? x : y},
                [op, function, c](const Saved& saved, const Tensor& dy) -> Gradients {
                  return {unary_backward(function, saved[0], dy, c, op)};
                });
}

/// y = x·factor or x/factor or ±x plus a constant, where dx = dy·slope.
Tensor linear_unary(std::string_view op, Unary function, const Tensor& x, double c, double slope) {
  if (computes_in_f32(x)) return cast(linear_unary(op, function, in_f32(x), c, slope), x.dtype());
  return record(op, {x}, unary(op, function, x, c, Save::nothing), {},
                [slope](const Saved&, const Tensor& dy) -> Gradients { return {slope == 1 ? dy : mul(dy, slope)}; });
}

// --- two operands ---

Tensor binary(std::string_view op, Binary function, const Tensor& a, const Tensor& b) {
  Tensor y = Tensor::empty(a.shape() == b.shape() ? a.shape() : broadcast(a.shape(), b.shape(), op), a.options());
  visit_float(a, op, [&]<class T>() {
    launch<kernel::BinaryForward>(a.device(),
                                  kernel::BinaryForward::Arguments<T>{.function = function,
                                                                      .shape = y.shape(),
                                                                      .a_strides = broadcast_strides(a, y.shape()),
                                                                      .b_strides = broadcast_strides(b, y.shape()),
                                                                      .a = a.data<T>(),
                                                                      .b = b.data<T>(),
                                                                      .y = y.data<T>()});
  });
  return y;
}

/// Σ dy · ∂function/∂a (or ∂b) over what was broadcast.
Tensor binary_backward(std::string_view op, Binary function, bool of_b, const Saved& saved, const Tensor& dy) {
  const Tensor &a = saved[0], &b = saved[1];
  Tensor gradient = Tensor::empty_like(dy);
  visit_float(dy, op, [&]<class T>() {
    launch<kernel::BinaryBackward>(dy.device(),
                                   kernel::BinaryBackward::Arguments<T>{.function = function,
                                                                        .of_b = of_b,
                                                                        .shape = dy.shape(),
                                                                        .a_strides = broadcast_strides(a, dy.shape()),
                                                                        .b_strides = broadcast_strides(b, dy.shape()),
                                                                        .dy_strides = dy.strides(),
                                                                        .a = a.data<T>(),
                                                                        .b = b.data<T>(),
                                                                        .dy = dy.data<T>(),
                                                                        .gradient = gradient.data<T>()});
  });
  return sum_to(gradient, (of_b ? b : a).shape());
}

/// A function whose derivatives need both operands.
Tensor curved_binary(std::string_view op, Binary function, const Tensor& a, const Tensor& b) {
  require_same_kind(op, {a, b});
  if (computes_in_f32(a)) return cast(curved_binary(op, function, in_f32(a), in_f32(b)), a.dtype());
  return record(op, {a, b}, binary(op, function, a, b), {a, b},
                [op, function](const Saved& saved, const Tensor& dy) -> Gradients {
                  return {saved.wants(0) ? binary_backward(op, function, false, saved, dy) : Tensor(),
                          saved.wants(1) ? binary_backward(op, function, true, saved, dy) : Tensor()};
                });
}

/// a ± b.
Tensor linear_binary(std::string_view op, Binary function, const Tensor& a, const Tensor& b) {
  require_same_kind(op, {a, b});
  if (computes_in_f32(a)) return cast(linear_binary(op, function, in_f32(a), in_f32(b)), a.dtype());
  const bool minus = function == Binary::subtract;
  return record(op, {a, b}, binary(op, function, a, b), {},
                [minus, a_shape = a.shape(), b_shape = b.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                  Tensor da = saved.wants(0) ? sum_to(dy, a_shape) : Tensor();
                  Tensor db = saved.wants(1) ? sum_to(dy, b_shape) : Tensor();
                  return {da, minus && db.defined() ? neg(db) : db};
                });
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) { return linear_binary("add", Binary::add, a, b); }
Tensor sub(const Tensor& a, const Tensor& b) { return linear_binary("sub", Binary::subtract, a, b); }
Tensor div(const Tensor& a, const Tensor& b) { return curved_binary("div", Binary::divide, a, b); }
Tensor maximum(const Tensor& a, const Tensor& b) { return curved_binary("maximum", Binary::maximum, a, b); }
Tensor pow(const Tensor& a, const Tensor& b) { return curved_binary("pow", Binary::power, a, b); }

Tensor mul(const Tensor& a, const Tensor& b) {
  require_same_kind("mul", {a, b});
  if (computes_in_f32(a)) return cast(mul(in_f32(a), in_f32(b)), a.dtype());
  return record("mul", {a, b}, binary("mul", Binary::multiply, a, b), {a, b},
                [](const Saved& saved, const Tensor& dy) -> Gradients {
                  return {saved.wants(0) ? sum_to(mul(dy, saved[1]), saved[0].shape()) : Tensor(),
                          saved.wants(1) ? sum_to(mul(dy, saved[0]), saved[1].shape()) : Tensor()};
                });
}

Tensor add(const Tensor& x, double c) { return linear_unary("add", Unary::add, x, c, 1); }
Tensor sub(const Tensor& x, double c) { return linear_unary("sub", Unary::add, x, -c, 1); }
Tensor sub(double c, const Tensor& x) { return linear_unary("sub", Unary::subtract_from, x, c, -1); }
Tensor mul(const Tensor& x, double c) { return linear_unary("mul", Unary::multiply, x, c, c); }
Tensor div(const Tensor& x, double c) { return linear_unary("div", Unary::divide, x, c, 1 / c); }
Tensor neg(const Tensor& x) { return linear_unary("neg", Unary::multiply, x, -1, -1); }

Tensor div(double c, const Tensor& x) { return unary("div", Unary::divide_into, x, c, Save::input); }
Tensor maximum(const Tensor& x, double c) { return unary("maximum", Unary::at_least, x, c, Save::input); }

Tensor pow(const Tensor& x, double exponent) {
  if (exponent == 0.5) return sqrt(x);
  if (exponent == -1) return div(1, x);
  return unary("pow", Unary::power, x, exponent, Save::input);
}

Tensor exp(const Tensor& x) { return unary("exp", Unary::exp, x, 0, Save::result); }
Tensor log(const Tensor& x) { return unary("log", Unary::log, x, 0, Save::input); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", Unary::sqrt, x, 0, Save::result); }
Tensor tanh(const Tensor& x) { return unary("tanh", Unary::tanh, x, 0, Save::result); }
Tensor sigmoid(const Tensor& x) { return unary("sigmoid", Unary::sigmoid, x, 0, Save::result); }
Tensor silu(const Tensor& x) { return unary("silu", Unary::silu, x, 0, Save::input); }
Tensor relu(const Tensor& x) { return unary("relu", Unary::relu, x, 0, Save::result); }
Tensor elu_plus_one(const Tensor& x) { return unary("elu_plus_one", Unary::elu_plus_one, x, 0, Save::result); }
Tensor softplus(const Tensor& x) { return unary("softplus", Unary::softplus, x, 0, Save::input); }
Tensor log_sigmoid(const Tensor& x) { return unary("log_sigmoid", Unary::log_sigmoid, x, 0, Save::input); }

Tensor gelu(const Tensor& x, Gelu form) {
  return unary("gelu", form == Gelu::exact ? Unary::gelu : Unary::gelu_tanh, x, 0, Save::input);
}

namespace {

/// condition ? a : b over `shape`; an undefined operand is all zeros.
Tensor choose(const Tensor& condition, const Tensor& a, const Tensor& b, const Shape& shape) {
  const Tensor& defined = a.defined() ? a : b;
  Tensor y = Tensor::empty(shape, defined.options());
  const Shape nowhere = broadcast_strides(Tensor::empty({}), shape);
  visit_float(defined, "where", [&]<class T>() {
    launch<kernel::Where>(defined.device(),
                          kernel::Where::Arguments<T>{.shape = shape,
                                                      .condition_strides = broadcast_strides(condition, shape),
                                                      .a_strides = a.defined() ? broadcast_strides(a, shape) : nowhere,
                                                      .b_strides = b.defined() ? broadcast_strides(b, shape) : nowhere,
                                                      .condition = condition.data<std::uint8_t>(),
                                                      .a = a.defined() ? a.data<T>() : nullptr,
                                                      .b = b.defined() ? b.data<T>() : nullptr,
                                                      .y = y.data<T>()});
  });
  return y;
}

}  // namespace

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  require_same_kind("where", {a, b});
  require(condition.dtype() == DType::u8 && condition.device() == a.device(), "where",
          "the condition {} must be u8 on the device of {}", condition, a);
  if (computes_in_f32(a)) return cast(where(condition, in_f32(a), in_f32(b)), a.dtype());
  const Shape shape = broadcast(broadcast(a.shape(), b.shape(), "where"), condition.shape(), "where");
  return record("where", {a, b}, choose(condition, a, b, shape), {condition},
                [a_shape = a.shape(), b_shape = b.shape()](const Saved& saved, const Tensor& dy) -> Gradients {
                  const Tensor& c = saved[0];
                  return {saved.wants(0) ? sum_to(choose(c, dy, Tensor(), dy.shape()), a_shape) : Tensor(),
                          saved.wants(1) ? sum_to(choose(c, Tensor(), dy, dy.shape()), b_shape) : Tensor()};
                });
}

namespace kernel {

std::array<std::string_view, 2> names(Unary function) {
  switch (function) {
    case Unary::add:
      return {"add_number", "add_number_backward"};
    case Unary::subtract_from:
      return {"subtract_from_number", "subtract_from_number_backward"};
    case Unary::multiply:
      return {"multiply_number", "multiply_number_backward"};
    case Unary::divide:
      return {"divide_number", "divide_number_backward"};
    case Unary::divide_into:
      return {"divide_into_number", "divide_into_number_backward"};
    case Unary::at_least:
      return {"at_least_number", "at_least_number_backward"};
    case Unary::power:
      return {"power_number", "power_number_backward"};
    case Unary::exp:
      return {"exp", "exp_backward"};
    case Unary::log:
      return {"log", "log_backward"};
    case Unary::sqrt:
      return {"sqrt", "sqrt_backward"};
    case Unary::tanh:
      return {"tanh", "tanh_backward"};
    case Unary::sigmoid:
      return {"sigmoid", "sigmoid_backward"};
    case Unary::silu:
      return {"silu", "silu_backward"};
    case Unary::relu:
      return {"relu", "relu_backward"};
    case Unary::elu_plus_one:
      return {"elu_plus_one", "elu_plus_one_backward"};
    case Unary::softplus:
      return {"softplus", "softplus_backward"};
    case Unary::log_sigmoid:
      return {"log_sigmoid", "log_sigmoid_backward"};
    case Unary::gelu:
      return {"gelu", "gelu_backward"};
    case Unary::gelu_tanh:
      return {"gelu_tanh", "gelu_tanh_backward"};
  }
  return {};
}

std::array<std::string_view, 2> names(Binary function) {
  switch (function) {
    case Binary::add:
      return {"add", "add_backward"};
    case Binary::subtract:
      return {"subtract", "subtract_backward"};
    case Binary::multiply:
      return {"multiply", "multiply_backward"};
    case Binary::divide:
      return {"divide", "divide_backward"};
    case Binary::maximum:
      return {"maximum", "maximum_backward"};
    case Binary::power:
      return {"power", "power_backward"};
  }
  return {};
}

std::int64_t distinct(const Shape& shape, const Shape& strides) {
  std::int64_t count = 1;
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (strides[axis] != 0) count *= shape[axis];
  return count;
}

}  // namespace kernel
}  // namespace sq
