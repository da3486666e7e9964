// ops/cpu/elementwise.cpp: every function goes through one loop, which walks the operands in rows as long as their
// strides allow. Rows that are not contiguous are gathered into a small buffer first, so that each function is compiled
// for contiguous rows only.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/elementwise.cpp"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"

#include "ops/elementwise.h"

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/versions.h"
#include "tensor/cpu/strided.h"

#include <algorithm>
#include <array>

HWY_BEFORE_NAMESPACE();
namespace sq::kernel::HWY_NAMESPACE {

#include "ops/functors-inl.h"

constexpr std::int64_t kChunk = 256;  // elements; three buffers of them stay in the first-level cache

/// out ← function(in_0, in_1, …) where function maps vectors to a vector; `strides` belong to the operands.
template <class T, std::size_t N, class Function>
void map_rows(const Shape& shape, const std::array<const T*, N>& in, const std::array<Shape, N>& strides, T* out,
              Function function) {
  std::array<Shape, N + 1> all;
  all[N] = contiguous_strides(shape);
  std::copy(strides.begin(), strides.end(), all.begin());
  const cpu::StridedLoop<N + 1> loop(shape, all);
  bool gather = false;
  for (std::size_t k = 0; k < N; ++k) gather |= loop.row_stride(k) != 1;
  loop.run([&](std::int64_t count, const auto& offsets, std::int64_t first) HWY_ATTR {
    using V = Lanes<T>;
    const std::int64_t lanes = V::count();
    HWY_ALIGN T buffers[N + 1][kChunk];
    const T* row[N];
    const auto at = [&](std::int64_t i) HWY_ATTR {
      if constexpr (N == 1)
        return function(V::load(row[0] + i));
      else if constexpr (N == 2)
        return function(V::load(row[0] + i), V::load(row[1] + i));
      else
        return function(V::load(row[0] + i), V::load(row[1] + i), V::load(row[2] + i));
    };
    for (std::int64_t begin = 0; begin < count;) {
      const std::int64_t chunk = gather ? std::min(count - begin, kChunk) : count;
      for (std::size_t k = 0; k < N; ++k) {
        const std::int64_t step = loop.row_stride(k);
        row[k] = in[k] + offsets[k] + begin * step;
        if (step == 1) continue;
        if (step != 0 || begin == 0)  // a constant row is filled in once
          for (std::int64_t i = 0; i < chunk; ++i) buffers[k][i] = row[k][i * step];
        row[k] = buffers[k];
      }
      T* y = out + first + begin;
      std::int64_t i = 0;
      for (; i + lanes <= chunk; i += lanes) at(i).store(y + i);
      if (i < chunk) {  // the rest passes through the same function in a vector padded with its last element
        const std::int64_t rest = chunk - i;
        for (std::size_t k = 0; k < N; ++k) {
          const T* from = row[k] + i;
          for (std::int64_t j = 0; j < lanes; ++j) buffers[k][j] = from[std::min(j, rest - 1)];
          row[k] = buffers[k];
        }
        at(0).store(buffers[N]);
        std::copy(buffers[N], buffers[N] + rest, y + i);
      }
      begin += chunk;
    }
  });
}

/// Calls visit(functor).
template <class Visit>
void with_functor(Unary function, double c, Visit visit) {
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
    case Unary::gelu:
      return visit(GeluExact());
    case Unary::gelu_tanh:
      return visit(GeluTanh());
  }
}

template <class Visit>
void with_functor(Binary function, Visit visit) {
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

template <class T>
void unary_forward(const UnaryForward::Arguments<T>& a) {
  using V = Lanes<T>;
  with_functor(a.function, a.c, [&]<class F>(F) {
    map_rows<T, 1>(a.shape, {a.x}, {a.x_strides}, a.y, [c = a.c](V x) HWY_ATTR { return F::value(x, V(c)); });
  });
}

template <class T>
void unary_backward(const UnaryBackward::Arguments<T>& a) {
  using V = Lanes<T>;
  with_functor(a.function, a.c, [&]<class F>(F) {
    map_rows<T, 2>(a.shape, {a.saved, a.dy}, {a.saved_strides, a.dy_strides}, a.dx,
                   [c = a.c](V saved, V dy) HWY_ATTR { return dy * F::derivative(saved, V(c)); });
  });
}

template <class T>
void binary_forward(const BinaryForward::Arguments<T>& a) {
  using V = Lanes<T>;
  with_functor(a.function, [&]<class F>(F) {
    map_rows<T, 2>(a.shape, {a.a, a.b}, {a.a_strides, a.b_strides}, a.y,
                   [](V x, V z) HWY_ATTR { return F::value(x, z); });
  });
}

template <class T>
void binary_backward(const BinaryBackward::Arguments<T>& a) {
  using V = Lanes<T>;
  const std::array<const T*, 3> in{a.a, a.b, a.dy};
  const std::array<Shape, 3> strides{a.a_strides, a.b_strides, a.dy_strides};
  with_functor(a.function, [&]<class F>(F) {
    if (a.of_b)
      map_rows<T, 3>(a.shape, in, strides, a.gradient,
                     [](V x, V z, V dy) HWY_ATTR { return dy * F::derivative_b(x, z); });
    else
      map_rows<T, 3>(a.shape, in, strides, a.gradient,
                     [](V x, V z, V dy) HWY_ATTR { return dy * F::derivative_a(x, z); });
  });
}

template <class T>
void where(const Where::Arguments<T>& a) {
  static const T zero = 0;
  const cpu::StridedLoop<4> loop(a.shape, {contiguous_strides(a.shape), a.condition_strides, a.a_strides, a.b_strides});
  const T* yes = a.a ? a.a : &zero;
  const T* no = a.b ? a.b : &zero;
  const std::int64_t c_step = loop.row_stride(1), a_step = loop.row_stride(2), b_step = loop.row_stride(3);
  loop.run([&](std::int64_t count, const auto& offsets, std::int64_t first) HWY_ATTR {
    T* y = a.y + first;
    const std::uint8_t* c = a.condition + offsets[1];
    const T *u = yes + offsets[2], *v = no + offsets[3];
    if (c_step == 1 && a_step == 1 && b_step == 1)
      for (std::int64_t i = 0; i < count; ++i) y[i] = c[i] ? u[i] : v[i];
    else
      for (std::int64_t i = 0; i < count; ++i) y[i] = c[i * c_step] ? u[i * a_step] : v[i * b_step];
  });
}

Versions<UnaryForward> unary_forward_versions() { return {unary_forward<float>, unary_forward<double>}; }
Versions<UnaryBackward> unary_backward_versions() { return {unary_backward<float>, unary_backward<double>}; }
Versions<BinaryForward> binary_forward_versions() { return {binary_forward<float>, binary_forward<double>}; }
Versions<BinaryBackward> binary_backward_versions() { return {binary_backward<float>, binary_backward<double>}; }
Versions<Where> where_versions() { return {where<float>, where<double>}; }

}  // namespace sq::kernel::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sq::kernel {

HWY_EXPORT(unary_forward_versions);
HWY_EXPORT(unary_backward_versions);
HWY_EXPORT(binary_forward_versions);
HWY_EXPORT(binary_backward_versions);
HWY_EXPORT(where_versions);

template <class T>
void UnaryForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(unary_forward_versions)()(a);
}
template void UnaryForward::cpu(const Arguments<float>&);
template void UnaryForward::cpu(const Arguments<double>&);

template <class T>
void UnaryBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(unary_backward_versions)()(a);
}
template void UnaryBackward::cpu(const Arguments<float>&);
template void UnaryBackward::cpu(const Arguments<double>&);

template <class T>
void BinaryForward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(binary_forward_versions)()(a);
}
template void BinaryForward::cpu(const Arguments<float>&);
template void BinaryForward::cpu(const Arguments<double>&);

template <class T>
void BinaryBackward::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(binary_backward_versions)()(a);
}
template void BinaryBackward::cpu(const Arguments<float>&);
template void BinaryBackward::cpu(const Arguments<double>&);

template <class T>
void Where::cpu(const Arguments<T>& a) {
  HWY_DYNAMIC_DISPATCH(where_versions)()(a);
}
template void Where::cpu(const Arguments<float>&);
template void Where::cpu(const Arguments<double>&);

}  // namespace sq::kernel
#endif
