// ops/elementwise.h: functions of one or two numbers, applied to every element.
//
// Tensors of any float dtype and any strides; two operands must agree in dtype and device and are broadcast by NumPy's
// rule. The result is row-major. Where an operand was broadcast its gradient is summed back to its shape. 16-bit floats
// are computed in f32 and rounded once. exp, log, tanh and what is built on them are accurate to a few units in the
// last place; NaN gives NaN. All throw Error on other dtypes and on shapes that do not broadcast.
//
// Each function stands once, as a pair (value, derivative), in ops/functors-inl.h.
#pragma once

#include "tensor/profiler.h"
#include "tensor/tensor.h"

#include <array>

namespace sq {

Tensor add(const Tensor& a, const Tensor& b);      // a + b
Tensor sub(const Tensor& a, const Tensor& b);      // a - b
Tensor mul(const Tensor& a, const Tensor& b);      // a · b
Tensor div(const Tensor& a, const Tensor& b);      // a / b
Tensor maximum(const Tensor& a, const Tensor& b);  // the larger, NaN if either is; where equal, half of dy to each
Tensor pow(const Tensor& a, const Tensor& b);  // a^b;  da = dy·b·a^(b-1),  db = dy·ln(a)·a^b (0 where a = 0 <= b)

// The same with a number, which is rounded to the dtype computed in.
Tensor add(const Tensor& x, double c);
Tensor sub(const Tensor& x, double c);
Tensor sub(double c, const Tensor& x);
Tensor mul(const Tensor& x, double c);
Tensor div(const Tensor& x, double c);
Tensor div(double c, const Tensor& x);
Tensor maximum(const Tensor& x, double c);
Tensor pow(const Tensor& x, double exponent);  // dx = dy·c·x^(c-1);  exponents 2, 3, -1 and ±½ are fast

Tensor neg(const Tensor& x);           // -x
Tensor exp(const Tensor& x);           // e^x
Tensor log(const Tensor& x);           // ln x
Tensor sqrt(const Tensor& x);          // √x
Tensor tanh(const Tensor& x);          // tanh x;                      dx = dy·(1 - y²)
Tensor sigmoid(const Tensor& x);       // σ(x) = 1 / (1 + e^-x);        dx = dy·y·(1 - y)
Tensor silu(const Tensor& x);          // x·σ(x);                       dx = dy·σ(x)·(1 + x·(1 - σ(x)))
Tensor relu(const Tensor& x);          // max(x, 0), NaN stays;         dx = dy where x > 0, else 0
Tensor elu_plus_one(const Tensor& x);  // 1 + x where x > 0, else e^x;  dx = dy where y > 1, else dy·y
Tensor softplus(const Tensor& x);      // ln(1 + e^x), also far from 0;  dx = dy·σ(x)
Tensor log_sigmoid(const Tensor& x);   // ln σ(x) = -ln(1 + e^-x);       dx = dy·σ(-x)

/// exact: x·Φ(x), Φ the normal distribution function       (Hendrycks & Gimpel 2016, "Gaussian error linear units")
/// tanh:  x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))          the approximation of the same paper
enum class Gelu { exact, tanh };
Tensor gelu(const Tensor& x, Gelu form = Gelu::exact);

/// a where `condition` (u8) is not 0, else b; all three are broadcast. NaN on the side not taken does no harm.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator+(const Tensor& x, double c) { return add(x, c); }
inline Tensor operator-(const Tensor& x, double c) { return sub(x, c); }
inline Tensor operator*(const Tensor& x, double c) { return mul(x, c); }
inline Tensor operator/(const Tensor& x, double c) { return div(x, c); }
inline Tensor operator+(double c, const Tensor& x) { return add(x, c); }
inline Tensor operator-(double c, const Tensor& x) { return sub(c, x); }
inline Tensor operator*(double c, const Tensor& x) { return mul(x, c); }
inline Tensor operator/(double c, const Tensor& x) { return div(c, x); }
inline Tensor operator-(const Tensor& x) { return neg(x); }

namespace kernel {

/// The functors of ops/functors-inl.h by name; those of the first row take the number c.
enum class Unary {
  add,
  subtract_from,
  multiply,
  divide,
  divide_into,
  at_least,
  power,
  exp,
  log,
  sqrt,
  tanh,
  sigmoid,
  silu,
  relu,
  elu_plus_one,
  softplus,
  log_sigmoid,
  gelu,
  gelu_tanh
};
enum class Binary { add, subtract, multiply, divide, maximum, power };

/// What profiles call a function and its derivative.
std::array<std::string_view, 2> names(Unary function);
std::array<std::string_view, 2> names(Binary function);
/// Elements that a tensor of this shape has in memory: what it repeats counts once.
std::int64_t distinct(const Shape& shape, const Shape& strides);

struct UnaryForward {
  static constexpr std::string_view name = "elementwise";
  template <class T>
  struct Arguments {
    Unary function;
    Shape shape, x_strides;
    const T* x;
    double c;
    T* y;  // row-major
  };
  static std::string_view label(const auto& a) { return names(a.function)[0]; }
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(distinct(a.shape, a.x_strides) + a.shape.numel());
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// dx = dy · function'(x), the derivative formed from x or, where the functor says so, from y.
struct UnaryBackward {
  static constexpr std::string_view name = "elementwise_backward";
  template <class T>
  struct Arguments {
    Unary function;
    Shape shape, saved_strides, dy_strides;
    const T* saved;
    const T* dy;
    double c;
    T* dx;  // row-major
  };
  static std::string_view label(const auto& a) { return names(a.function)[1]; }
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(distinct(a.shape, a.saved_strides) + distinct(a.shape, a.dy_strides) + a.shape.numel());
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

struct BinaryForward {
  static constexpr std::string_view name = "elementwise";
  template <class T>
  struct Arguments {
    Binary function;
    Shape shape, a_strides, b_strides;
    const T* a;
    const T* b;
    T* y;  // row-major
  };
  static std::string_view label(const auto& a) { return names(a.function)[0]; }
  template <class T>
  static Work work(const Arguments<T>& a) {
    return Work::moving<T>(distinct(a.shape, a.a_strides) + distinct(a.shape, a.b_strides) + a.shape.numel());
  }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// dy · ∂function/∂a, or dy · ∂function/∂b, over the broadcast shape.
struct BinaryBackward {
  static constexpr std::string_view name = "elementwise_backward";
  template <class T>
  struct Arguments {
    Binary function;
    bool of_b;
    Shape shape, a_strides, b_strides, dy_strides;
    const T* a;
    const T* b;
    const T* dy;
    T* gradient;  // row-major
  };
  static std::string_view label(const auto& a) { return names(a.function)[1]; }
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

/// y = condition ? a : b, a null operand standing for zeros.
struct Where {
  static constexpr std::string_view name = "where";
  template <class T>
  struct Arguments {
    Shape shape, condition_strides, a_strides, b_strides;
    const std::uint8_t* condition;
    const T* a;
    const T* b;
    T* y;  // row-major
  };
  template <class T>
  static void cpu(const Arguments<T>& a);
  template <class T>
  static void cuda(const cuda::Context& context, const Arguments<T>& a);
};

}  // namespace kernel
}  // namespace sq
