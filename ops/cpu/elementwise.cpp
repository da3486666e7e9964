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

/// Computes `count` elements of out, whole vectors, from N contiguous rows and a number: one function of
/// functors-inl.h.
template <class T, std::size_t N>
using RowFunction = void (*)(const std::array<const T*, N>& in, double c, T* out, std::int64_t count);

/// out ← function(in_0, in_1, …, c); `strides` belong to the operands. What does not depend on the function is here and
/// compiled once for each number of operands.
template <class T, std::size_t N>
HWY_NOINLINE void map_rows(const Shape& shape, const std::array<const T*, N>& in, const std::array<Shape, N>& strides,
                           T* out, RowFunction<T, N> function, double c = 0) {
  std::array<Shape, N + 1> all;
  all[N] = contiguous_strides(shape);
  std::copy(strides.begin(), strides.end(), all.begin());
  const cpu::StridedLoop<N + 1> loop(shape, all);
  bool gather = false;
  for (std::size_t k = 0; k < N; ++k) gather |= loop.row_stride(k) != 1;
  loop.run([&](std::int64_t count, const auto& offsets, std::int64_t first) {
    const std::int64_t lanes = Lanes<T>::count();
    HWY_ALIGN T buffers[N + 1][kChunk];
    std::array<const T*, N> row;
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
      const std::int64_t whole = chunk / lanes * lanes, rest = chunk - whole;
      function(row, c, y, whole);
      if (rest > 0) {  // the rest passes through the same function in a vector padded with its last element
        for (std::size_t k = 0; k < N; ++k) {
          const T* from = row[k] + whole;
          for (std::int64_t j = 0; j < lanes; ++j) buffers[k][j] = from[std::min(j, rest - 1)];
          row[k] = buffers[k];
        }
        function(row, c, buffers[N], lanes);
        std::copy(buffers[N], buffers[N] + rest, y + whole);
      }
      begin += chunk;
    }
  });
}

template <class T>
void unary_forward(const UnaryForward::Arguments<T>& a) {
  using V = Lanes<T>;
  with_functor(a.function, a.c, [&]<class F>(F) {
    map_rows<T, 1>(
        a.shape, {a.x}, {a.x_strides}, a.y,
        [](const auto& in, double c, T* y, std::int64_t count) HWY_ATTR {
          for (std::int64_t i = 0; i < count; i += V::count()) F::value(V::load(in[0] + i), V(c)).store(y + i);
        },
        a.c);
  });
}

template <class T>
void unary_backward(const UnaryBackward::Arguments<T>& a) {
  using V = Lanes<T>;
  with_functor(a.function, a.c, [&]<class F>(F) {
    map_rows<T, 2>(
        a.shape, {a.saved, a.dy}, {a.saved_strides, a.dy_strides}, a.dx,
        [](const auto& in, double c, T* dx, std::int64_t count) HWY_ATTR {
          for (std::int64_t i = 0; i < count; i += V::count())
            (V::load(in[1] + i) * F::derivative(V::load(in[0] + i), V(c))).store(dx + i);
        },
        a.c);
  });
}

template <class T>
void binary_forward(const BinaryForward::Arguments<T>& a) {
  using V = Lanes<T>;
  with_functor(a.function, [&]<class F>(F) {
    map_rows<T, 2>(a.shape, {a.a, a.b}, {a.a_strides, a.b_strides}, a.y,
                   [](const auto& in, double, T* y, std::int64_t count) HWY_ATTR {
                     for (std::int64_t i = 0; i < count; i += V::count())
                       F::value(V::load(in[0] + i), V::load(in[1] + i)).store(y + i);
                   });
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
                     [](const auto& rows, double, T* out, std::int64_t count) HWY_ATTR {
                       for (std::int64_t i = 0; i < count; i += V::count()) {
                         const V slope = F::derivative_b(V::load(rows[0] + i), V::load(rows[1] + i));
                         (V::load(rows[2] + i) * slope).store(out + i);
                       }
                     });
    else
      map_rows<T, 3>(a.shape, in, strides, a.gradient,
                     [](const auto& rows, double, T* out, std::int64_t count) HWY_ATTR {
                       for (std::int64_t i = 0; i < count; i += V::count()) {
                         const V slope = F::derivative_a(V::load(rows[0] + i), V::load(rows[1] + i));
                         (V::load(rows[2] + i) * slope).store(out + i);
                       }
                     });
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
