// tensor/cuda/numbers.h: the element types inside kernels. 16-bit floats are stored, and computed with in f32.
//
//   load(p), widen(x)     as the type computed in: Wide<T> is double for f64, float for f32, bf16 and f16
//   narrow<T>(w)          back, rounded to nearest even as everywhere in the library
//   Pack<T, N>            N neighbouring elements, moved in one go where the address is a multiple of their size
#pragma once

#include "tensor/cuda/threads.h"
#include "tensor/dtype.h"

#include <cmath>
#include <limits>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace sq::cuda {

template <class T>
using Wide = Accumulator<T>;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
#ifdef __CUDACC__
__device__ inline float widen(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ inline float widen(f16 x) { return __half2float(__ushort_as_half(x.bits)); }
#else
inline float widen(bf16 x) { return x; }
inline float widen(f16 x) { return x; }
#endif

template <class T>
__device__ inline T narrow(Wide<T> x) {
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
    return x;
  } else {
#ifdef __CUDACC__
    T result;
    if constexpr (std::is_same_v<T, f16>) {
      result.bits = __half_as_ushort(__float2half_rn(x));
    } else {
      // as bf16's constructor has it: a NaN keeps its sign and upper bits, all else is rounded to nearest even
      const unsigned u = __float_as_uint(x);
      result.bits = static_cast<std::uint16_t>(
          (u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x0040u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
    return result;
#else
    return T(x);
#endif
  }
}

template <class T>
__device__ inline Wide<T> load(const T* from) {
  return widen(*from);
}
template <class T>
__device__ inline void store(T* to, Wide<T> value) {
  *to = narrow<T>(value);
}

/// N elements that travel together.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T items[N];

  __device__ static Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  __device__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }
};
/// As many elements as make 16 bytes.
template <class T>
inline constexpr int kPack = 16 / static_cast<int>(sizeof(T));

/// Whether Pack<T, N> may be loaded there; asked on the host before choosing a kernel.
template <class T, int N = kPack<T>>
bool is_aligned(const T* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % (sizeof(T) * N) == 0;
}

// Functions of a Wide number under the names that templates shared with the CPU use (ops/functors-inl.h).
__host__ __device__ constexpr float select(bool condition, float yes, float no) { return condition ? yes : no; }
__host__ __device__ constexpr double select(bool condition, double yes, double no) { return condition ? yes : no; }
__host__ __device__ constexpr bool is_nan(float x) { return x != x; }
__host__ __device__ constexpr bool is_nan(double x) { return x != x; }
__host__ __device__ inline float exp(float x) { return ::expf(x); }
__host__ __device__ inline double exp(double x) { return ::exp(x); }
__host__ __device__ inline float log(float x) { return ::logf(x); }
__host__ __device__ inline double log(double x) { return ::log(x); }
__host__ __device__ inline float sqrt(float x) { return ::sqrtf(x); }
__host__ __device__ inline double sqrt(double x) { return ::sqrt(x); }
__host__ __device__ inline float tanh(float x) { return ::tanhf(x); }
__host__ __device__ inline double tanh(double x) { return ::tanh(x); }
__host__ __device__ inline float power(float x, float y) { return ::powf(x, y); }
__host__ __device__ inline double power(double x, double y) { return ::pow(x, y); }
/// The larger; a NaN wins.
__host__ __device__ constexpr float larger(float a, float b) { return is_nan(a) || a > b ? a : b; }
__host__ __device__ constexpr double larger(double a, double b) { return is_nan(a) || a > b ? a : b; }
/// The normal distribution function.
#ifdef __CUDACC__
__host__ __device__ inline float normal_cdf(float x) { return ::normcdff(x); }
__host__ __device__ inline double normal_cdf(double x) { return ::normcdf(x); }
#else
inline double normal_cdf(double x) { return 0.5 * std::erfc(x * -0.70710678118654752440); }
inline float normal_cdf(float x) { return static_cast<float>(normal_cdf(static_cast<double>(x))); }
#endif

template <class T>
__host__ __device__ constexpr T infinity() {
  return std::numeric_limits<T>::infinity();
}
template <class T>
__host__ __device__ constexpr T not_a_number() {
  return std::numeric_limits<T>::quiet_NaN();
}

}  // namespace sq::cuda
