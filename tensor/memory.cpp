#include "tensor/memory.h"

#include "tensor/cpu/strided.h"
#include "tensor/profiler.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

namespace sq {
namespace {

/// The nearest whole number towards 0 that To holds; 0 for NaN. (A plain conversion of what does not fit is undefined.)
template <class To>
To whole_number(double value) {
  using Limits = std::numeric_limits<To>;
  const double end = std::ldexp(1.0, Limits::digits);  // the first value too large
  if (value >= end) return Limits::max();
  if (value <= static_cast<double>(Limits::min())) return Limits::min();
  return std::isnan(value) ? To(0) : static_cast<To>(value);
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<From, To>)
    return value;
  else if constexpr (std::is_integral_v<To> && !std::is_integral_v<From>)
    return whole_number<To>(static_cast<double>(value));
  else if constexpr (std::is_same_v<From, bf16> || std::is_same_v<From, f16>)
    return static_cast<To>(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>)
    return To(static_cast<float>(value));
  else
    return static_cast<To>(value);
}

template <class To, class From>
void copy_rows(Tensor& target, const Tensor& source) {
  To* out = target.data<To>();
  const From* in = source.data<From>();
  const cpu::StridedLoop<2> loop(target.shape(), {target.strides(), source.strides()});
  const std::int64_t to_step = loop.row_stride(0), from_step = loop.row_stride(1);
  loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
    To* to = out + offset[0];
    const From* from = in + offset[1];
    if (to_step == 1 && from_step == 1) {
      if constexpr (std::is_same_v<To, From>)
        std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(To));
      else
        for (std::int64_t i = 0; i < count; ++i) to[i] = convert<To>(from[i]);
    } else {
      for (std::int64_t i = 0; i < count; ++i) to[i * to_step] = convert<To>(from[i * from_step]);
    }
  });
}

/// So many bytes for each element.
Work moves(const Tensor& tensor, std::int64_t bytes) { return Work::moving<std::byte>(tensor.numel() * bytes); }

}  // namespace

void fill_(Tensor& target, double value) {
  const KernelSpan span("fill", [&] { return moves(target, item_size(target.dtype())); });
  visit(target.dtype(), [&]<class T>() {
    T* out = target.data<T>();
    const T filler = convert<T>(value);
    const cpu::StridedLoop<1> loop(target.shape(), {target.strides()});
    const std::int64_t step = loop.row_stride(0);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
      for (std::int64_t i = 0; i < count; ++i) out[offset[0] + i * step] = filler;
    });
  });
  target.mark_changed();
}

void copy_(Tensor& target, const Tensor& source) {
  require(target.shape() == source.shape(), "copy", "{} cannot be copied into {}", source, target);
  const KernelSpan span("copy", [&] { return moves(target, item_size(target.dtype()) + item_size(source.dtype())); });
  visit(target.dtype(),
        [&]<class To>() { visit(source.dtype(), [&]<class From>() { copy_rows<To, From>(target, source); }); });
  target.mark_changed();
}

void accumulate_(Tensor& target, const Tensor& source) {
  require(target.shape() == source.shape() && target.dtype() == source.dtype() && is_float(target.dtype()),
          "accumulate", "{} cannot be added to {}", source, target);
  const KernelSpan span("accumulate", [&] { return moves(target, 3 * item_size(target.dtype())); });
  visit(target.dtype(), [&]<class T>() {
    T* out = target.data<T>();
    const T* in = source.data<T>();
    const cpu::StridedLoop<2> loop(target.shape(), {target.strides(), source.strides()});
    const std::int64_t to_step = loop.row_stride(0), from_step = loop.row_stride(1);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
      T* to = out + offset[0];
      const T* from = in + offset[1];
      for (std::int64_t i = 0; i < count; ++i)
        to[i * to_step] = static_cast<T>(Accumulator<T>(to[i * to_step]) + Accumulator<T>(from[i * from_step]));
    });
  });
  target.mark_changed();
}

Tensor packed_copy(const Tensor& source, DType dtype) {
  Tensor result = Tensor::empty(source.shape(), {dtype, source.device()});
  copy_(result, source);
  return result;
}

Tensor packed_copy(const Tensor& source) { return packed_copy(source, source.dtype()); }

Tensor packed(const Tensor& source) { return source.is_contiguous() ? source : packed_copy(source); }

bool all_finite(const Tensor& tensor) {
  if (!is_float(tensor.dtype())) return true;
  std::atomic<bool> finite{true};
  visit(tensor.dtype(), [&]<class T>() {
    const T* in = tensor.data<T>();
    const cpu::StridedLoop<1> loop(tensor.shape(), {tensor.strides()});
    const std::int64_t step = loop.row_stride(0);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t) {
      bool good = true;
      for (std::int64_t i = 0; i < count; ++i) good &= std::isfinite(convert<double>(in[offset[0] + i * step]));
      if (!good) finite.store(false, std::memory_order_relaxed);
    });
  });
  return finite;
}

bool bit_equal(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Tensor x = packed(a), y = packed(b);
  return std::memcmp(x.bytes(), y.bytes(), static_cast<std::size_t>(x.numel() * item_size(x.dtype()))) == 0;
}

}  // namespace sq
