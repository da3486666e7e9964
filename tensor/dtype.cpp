#include "tensor/dtype.h"

#include <array>
#include <cmath>

namespace sq {
namespace {

struct DTypeInfo {
  std::string_view name;
  std::int64_t size;
};
// In the order of the enumeration.
constexpr std::array<DTypeInfo, 7> kTypes{
    {{"f32", 4}, {"f64", 8}, {"bf16", 2}, {"f16", 2}, {"i32", 4}, {"i64", 8}, {"u8", 1}}};

}  // namespace

bf16::bf16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  if ((u & 0x7fffffffu) > 0x7f800000u) {  // NaN: keep the sign, force a quiet payload that survives truncation
    bits = static_cast<std::uint16_t>((u >> 16) | 0x0040u);
    return;
  }
  // Adding 0x7fff plus the lowest kept bit carries exactly when the dropped half rounds up (ties to even).
  bits = static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

f16::f16(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {  // NaN
    bits = static_cast<std::uint16_t>(sign | 0x7e00u);
  } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
    bits = static_cast<std::uint16_t>(sign | 0x7c00u);
  } else if (magnitude < 0x38800000u) {  // below 2^-14: a subnormal is a multiple of 2^-24
    const float scaled = std::bit_cast<float>(magnitude) * 16777216.0f;
    bits = static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(scaled)));
  } else {  // normal: rebias the exponent by 127 - 15 = 112 and round the 13 dropped bits to even
    const std::uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
    bits = static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
  }
}

f16::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

std::int64_t item_size(DType dtype) { return kTypes[static_cast<std::size_t>(dtype)].size; }

std::string_view name(DType dtype) { return kTypes[static_cast<std::size_t>(dtype)].name; }

DType parse_dtype(std::string_view text) {
  for (std::size_t i = 0; i < kTypes.size(); ++i)
    if (kTypes[i].name == text) return static_cast<DType>(i);
  throw UsageError(fmt::format("dtype: '{}' is unknown; known are f32, f64, bf16, f16, i32, i64, u8", text));
}

}  // namespace sq
