// tensor/dtype.h: the element types, their names and sizes, and the two 16-bit floats.
#pragma once

#include "tensor/error.h"

#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace sq {

/// Element types. Names are those of the safetensors format in lower case, except the floats' customary `bf16`, `f16`.
enum class DType : std::uint8_t { f32, f64, bf16, f16, i32, i64, u8 };

/// bfloat16: the upper half of a float. Conversion from float rounds to nearest, ties to even; NaN stays NaN.
struct bf16 {
  std::uint16_t bits = 0;
  bf16() = default;
  bf16(float value);  // NOLINT(google-explicit-constructor): a 16-bit float stands wherever a float does
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE 754 binary16. Conversion from float rounds to nearest, ties to even; overflow gives infinity; subnormals are
/// kept.
struct f16 {
  std::uint16_t bits = 0;
  f16() = default;
  f16(float value);  // NOLINT(google-explicit-constructor)
  operator float() const;
};

/// Bytes of one element.
std::int64_t item_size(DType dtype);
/// "f32", "f64", "bf16", "f16", "i32", "i64" or "u8".
std::string_view name(DType dtype);
/// The inverse of `name`. Throws UsageError listing the known names.
DType parse_dtype(std::string_view text);

constexpr bool is_float(DType d) { return d == DType::f32 || d == DType::f64 || d == DType::bf16 || d == DType::f16; }
constexpr bool is_half(DType d) { return d == DType::bf16 || d == DType::f16; }

/// The DType of a C++ element type.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, bf16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, f16>)
    return DType::f16;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return DType::i64;
  else {
    static_assert(std::is_same_v<T, std::uint8_t>, "not an element type");
    return DType::u8;
  }
}

/// The type in which values of T are summed: double for f64, float for the other floats, int64 for integers.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double,
                                       std::conditional_t<std::is_integral_v<T>, std::int64_t, float>>;

/// Calls f.template operator()<T>() with the element type of `dtype`.
template <class F>
decltype(auto) visit(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f.template operator()<float>();
    case DType::f64:
      return f.template operator()<double>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::u8:
      break;
  }
  return f.template operator()<std::uint8_t>();
}

/// The same for f32 and f64 only, the types in which kernels compute. Throws Error naming `op` for every other type.
template <class F>
decltype(auto) visit_float(DType dtype, std::string_view op, F&& f) {
  if (dtype == DType::f64) return f.template operator()<double>();
  require(dtype == DType::f32, op, "dtype {} is not supported; use f32 or f64", name(dtype));
  return f.template operator()<float>();
}

}  // namespace sq
