// tensor/random.h: random numbers as a pure function of (seed, stream, index).
#pragma once

#include "tensor/tensor.h"

#include <array>
#include <cstdint>

namespace sq {

/// Philox 4x32 with 10 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). The key is the seed,
/// the counter is (index, stream): 128 random bits for each pair, the same on every device and in any order.
std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

/// The 32 random bits of element `index` of a stream: word index % 4 of block index / 4.
std::uint32_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
/// Uniform in [0,1): the upper 24 of those bits.
inline float to_unit_float(std::uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }
/// Uniform in [0,1) for element `index`.
inline float random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return to_unit_float(random_bits(seed, stream, index));
}
/// Uniform integer in [0, bound), bound >= 1, without bias worth measuring (64-bit multiply-shift).
std::uint64_t random_below(std::uint64_t seed, std::uint64_t stream, std::uint64_t index, std::uint64_t bound);

/// One source of randomness: each use takes the next stream, so the state is two integers.
struct Generator {
  std::uint64_t seed = 42;
  std::uint64_t next_stream = 0;

  explicit Generator(std::uint64_t seed_value = 42, std::uint64_t stream = 0) : seed(seed_value), next_stream(stream) {}
  std::uint64_t take_stream() { return next_stream++; }
  bool operator==(const Generator&) const = default;
};

/// The generator of this thread, used wherever none is passed.
Generator& default_generator();

/// Fills with independent values, uniform in [low, high) or normal (Box-Muller in f64, rounded once). Any strides; the
/// value depends on the element's row-major number alone. Throws Error for integer dtypes.
void fill_uniform_(Tensor& target, double low, double high, Generator& generator = default_generator());
void fill_normal_(Tensor& target, double mean, double deviation, Generator& generator = default_generator());

/// New tensors with such values: uniform in [0,1), standard normal.
Tensor rand(const Shape& shape, TensorOptions options = {}, Generator& generator = default_generator());
Tensor randn(const Shape& shape, TensorOptions options = {}, Generator& generator = default_generator());

}  // namespace sq
