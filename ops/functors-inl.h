// ops/functors-inl.h: the elementwise functions, each as a pair (value, derivative), for every device.
//
// This file is included inside the namespace of a device's kernels, once per instruction set, after V is declared
// there: a number, or a vector of numbers, with + - * / and unary minus, comparisons, select(condition, yes, no),
// construction from double, and exp, log, sqrt, tanh, power, normal_cdf, is_nan. On the CPU V is Lanes<T>
// (ops/cpu/lanes-inl.h), on a GPU float or double (tensor/cuda/numbers.h).
// The functions are constexpr because nvcc lets a GPU call those.
//
// `value(x, c)` has the number c of the forms with a number. `derivative` is given x, or the result where its argument
// is called y (ops/elementwise.cpp saves the one or the other).

// --- with a number c ---

struct Add {
  template <class V>
  static constexpr V value(V x, V c) {
    return x + c;
  }
  template <class V>
  static constexpr V derivative(V, V) {
    return V(1);
  }
};

struct SubtractFrom {  // c - x
  template <class V>
  static constexpr V value(V x, V c) {
    return c - x;
  }
  template <class V>
  static constexpr V derivative(V, V) {
    return V(-1);
  }
};

struct Multiply {
  template <class V>
  static constexpr V value(V x, V c) {
    return x * c;
  }
  template <class V>
  static constexpr V derivative(V, V c) {
    return c;
  }
};

struct Divide {  // x / c
  template <class V>
  static constexpr V value(V x, V c) {
    return x / c;
  }
  template <class V>
  static constexpr V derivative(V, V c) {
    return V(1) / c;
  }
};

struct DivideInto {  // c / x
  template <class V>
  static constexpr V value(V x, V c) {
    return c / x;
  }
  template <class V>
  static constexpr V derivative(V x, V c) {
    return -c / (x * x);
  }
};

struct AtLeast {  // max(x, c)
  template <class V>
  static constexpr V value(V x, V c) {
    return select(x < c, c, x);
  }
  template <class V>
  static constexpr V derivative(V x, V c) {
    return select(x < c, V(0), select(x == c, V(0.5), V(1)));
  }
};

struct Power {  // x^c
  template <class V>
  static constexpr V value(V x, V c) {
    return power(x, c);
  }
  template <class V>
  static constexpr V derivative(V x, V c) {
    return select(c == V(0), V(0), c * power(x, c - V(1)));
  }
};

struct Square {
  template <class V>
  static constexpr V value(V x, V) {
    return x * x;
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return x + x;
  }
};

struct Cube {
  template <class V>
  static constexpr V value(V x, V) {
    return x * x * x;
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return V(3) * x * x;
  }
};

struct InverseSquareRoot {
  template <class V>
  static constexpr V value(V x, V) {
    return V(1) / sqrt(x);
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return V(-0.5) / (x * sqrt(x));
  }
};

// --- of x alone ---

struct Exp {
  template <class V>
  static constexpr V value(V x, V) {
    return exp(x);
  }
  template <class V>
  static constexpr V derivative(V y, V) {
    return y;
  }
};

struct Log {
  template <class V>
  static constexpr V value(V x, V) {
    return log(x);
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return V(1) / x;
  }
};

struct SquareRoot {
  template <class V>
  static constexpr V value(V x, V) {
    return sqrt(x);
  }
  template <class V>
  static constexpr V derivative(V y, V) {
    return V(0.5) / y;
  }
};

struct Tanh {
  template <class V>
  static constexpr V value(V x, V) {
    return tanh(x);
  }
  template <class V>
  static constexpr V derivative(V y, V) {
    return V(1) - y * y;
  }
};

struct Sigmoid {
  template <class V>
  static constexpr V value(V x, V) {
    return V(1) / (V(1) + exp(-x));
  }
  template <class V>
  static constexpr V derivative(V y, V) {
    return y * (V(1) - y);
  }
};

struct Silu {
  template <class V>
  static constexpr V value(V x, V) {
    return x / (V(1) + exp(-x));
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    const V s = V(1) / (V(1) + exp(-x));
    return s * (V(1) + x * (V(1) - s));
  }
};

struct Relu {
  template <class V>
  static constexpr V value(V x, V) {
    return select(x < V(0), V(0), x);
  }
  template <class V>
  static constexpr V derivative(V y, V) {
    return select(y > V(0), V(1), V(0));
  }
};

struct EluPlusOne {  // 1 + x for x > 0, else e^x; the exponential is not taken of what would overflow
  template <class V>
  static constexpr V value(V x, V) {
    return select(x > V(0), V(1) + x, exp(select(x > V(0), V(0), x)));
  }
  template <class V>
  static constexpr V derivative(V y, V) {
    return select(y > V(1), V(1), y);
  }
};

struct Softplus {  // ln(1 + e^x) = max(x, 0) + ln(1 + u), u = e^-|x|, which neither overflows nor cancels
  /// ln(1 + u) for 0 <= u <= 1: what rounding 1 + u loses is the factor u / ((1 + u) - 1).
  template <class V>
  static constexpr V log_of_one_plus(V u) {
    const V w = V(1) + u;
    return select(w == V(1), u, log(w) * (u / (w - V(1))));
  }
  template <class V>
  static constexpr V value(V x, V) {
    return select(x < V(0), V(0), x) + log_of_one_plus(exp(select(x < V(0), x, -x)));
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return V(1) / (V(1) + exp(-x));
  }
};

struct LogSigmoid {  // ln σ(x) = -ln(1 + e^-x)
  template <class V>
  static constexpr V value(V x, V c) {
    return -Softplus::value(-x, c);
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return V(1) / (V(1) + exp(x));
  }
};

struct GeluExact {  // x·Φ(x);  the derivative is Φ(x) + x·φ(x) with the density φ(x) = e^(-x²/2) / √(2π)
  template <class V>
  static constexpr V value(V x, V) {
    return x * normal_cdf(x);
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    return normal_cdf(x) + x * (V(0.39894228040143267794) * exp(V(-0.5) * x * x));
  }
};

struct GeluTanh {  // with u = √(2/π)·(x + 0.044715·x³):  x/2·(1 + tanh u) = x·σ(2u), one exponential
  template <class V>
  static constexpr V twice_u(V x) {
    return V(1.5957691216057307117) * (x + V(0.044715) * x * x * x);
  }
  template <class V>
  static constexpr V value(V x, V) {
    return x / (V(1) + exp(-twice_u(x)));
  }
  template <class V>
  static constexpr V derivative(V x, V) {
    const V s = V(1) / (V(1) + exp(-twice_u(x)));
    return s + x * s * (V(1) - s) * (V(1.5957691216057307117) * (V(1) + V(3 * 0.044715) * x * x));
  }
};

// --- of two operands ---

struct Sum {
  template <class V>
  static constexpr V value(V a, V b) {
    return a + b;
  }
  template <class V>
  static constexpr V derivative_a(V, V) {
    return V(1);
  }
  template <class V>
  static constexpr V derivative_b(V, V) {
    return V(1);
  }
};

struct Difference {
  template <class V>
  static constexpr V value(V a, V b) {
    return a - b;
  }
  template <class V>
  static constexpr V derivative_a(V, V) {
    return V(1);
  }
  template <class V>
  static constexpr V derivative_b(V, V) {
    return V(-1);
  }
};

struct Product {
  template <class V>
  static constexpr V value(V a, V b) {
    return a * b;
  }
  template <class V>
  static constexpr V derivative_a(V, V b) {
    return b;
  }
  template <class V>
  static constexpr V derivative_b(V a, V) {
    return a;
  }
};

struct Quotient {
  template <class V>
  static constexpr V value(V a, V b) {
    return a / b;
  }
  template <class V>
  static constexpr V derivative_a(V, V b) {
    return V(1) / b;
  }
  template <class V>
  static constexpr V derivative_b(V a, V b) {
    return -a / (b * b);
  }
};

struct Larger {  // NaN in either operand gives NaN
  template <class V>
  static constexpr V value(V a, V b) {
    return select(is_nan(b), b, select(a < b, b, a));
  }
  template <class V>
  static constexpr V derivative_a(V a, V b) {
    return select(a < b, V(0), select(a == b, V(0.5), V(1)));
  }
  template <class V>
  static constexpr V derivative_b(V a, V b) {
    return derivative_a(b, a);
  }
};

struct PowerOf {  // a^b
  template <class V>
  static constexpr V value(V a, V b) {
    return power(a, b);
  }
  template <class V>
  static constexpr V derivative_a(V a, V b) {
    return select(b == V(0), V(0), b * power(a, b - V(1)));
  }
  template <class V>
  static constexpr V derivative_b(V a, V b) {
    return select(a == V(0), select(b < V(0), V(0) / V(0), V(0)), power(a, b) * log(a));
  }
};

// --- by name (ops/elementwise.h) ---

/// Calls visit(functor).
template <class Visit>
constexpr void with_functor(Unary function, double c, Visit visit) {
  switch (function) {
    case Unary::add:
      return visit(Add());
    case Unary::subtract_from:
      return visit(SubtractFrom());
    case Unary::multiply:
      return visit(Multiply());
    case Unary::divide:
      return visit(Divide());
    case Unary::divide_into:
      return visit(DivideInto());
    case Unary::at_least:
      return visit(AtLeast());
    case Unary::power:
      return c == 2      ? visit(Square())
             : c == 3    ? visit(Cube())
             : c == -0.5 ? visit(InverseSquareRoot())
                         : visit(Power());
    case Unary::exp:
      return visit(Exp());
    case Unary::log:
      return visit(Log());
    case Unary::sqrt:
      return visit(SquareRoot());
    case Unary::tanh:
      return visit(Tanh());
    case Unary::sigmoid:
      return visit(Sigmoid());
    case Unary::silu:
      return visit(Silu());
    case Unary::relu:
      return visit(Relu());
    case Unary::elu_plus_one:
      return visit(EluPlusOne());
    case Unary::softplus:
      return visit(Softplus());
    case Unary::log_sigmoid:
      return visit(LogSigmoid());
    case Unary::gelu:
      return visit(GeluExact());
    case Unary::gelu_tanh:
      return visit(GeluTanh());
  }
}

template <class Visit>
constexpr void with_functor(Binary function, Visit visit) {
  switch (function) {
    case Binary::add:
      return visit(Sum());
    case Binary::subtract:
      return visit(Difference());
    case Binary::multiply:
      return visit(Product());
    case Binary::divide:
      return visit(Quotient());
    case Binary::maximum:
      return visit(Larger());
    case Binary::power:
      return visit(PowerOf());
  }
}
