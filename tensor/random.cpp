#include "tensor/random.h"

#include "tensor/cpu/strided.h"
#include "tensor/memory.h"

#include <cmath>
#include <numbers>

namespace sq {
namespace {

__extension__ using Wide = unsigned __int128;  // for 64-bit multiply-shift

/// Writes value(index) to every element, index being its row-major number.
template <class Value>
void fill_by_index(Tensor& target, std::string_view op, Value&& value) {
  require(is_float(target.dtype()), op, "{} does not hold floats", target);
  if (!target.device().is_cpu()) {  // made by the host, so that the bits are the same everywhere
    Tensor values = Tensor::empty(target.shape(), {target.dtype(), Device{}});
    fill_by_index(values, op, value);
    return copy_(target, values);
  }
  visit(target.dtype(), [&]<class T>() {
    T* out = target.data<T>();
    const cpu::StridedLoop<1> loop(target.shape(), {target.strides()});
    const std::int64_t step = loop.row_stride(0);
    loop.run([&](std::int64_t count, const auto& offset, std::int64_t first) {
      for (std::int64_t i = 0; i < count; ++i)
        out[offset[0] + i * step] =
            static_cast<T>(static_cast<Accumulator<T>>(value(static_cast<std::uint64_t>(first + i))));
    });
  });
  target.mark_changed();
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
  std::array<std::uint32_t, 4> c{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                 static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = kMultiplier0 * c[0], p1 = kMultiplier1 * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

std::uint32_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return philox(seed, stream, index / 4)[index % 4];
}

std::uint64_t random_below(std::uint64_t seed, std::uint64_t stream, std::uint64_t index, std::uint64_t bound) {
  require(bound >= 1, "random_below", "the bound must be at least 1");
  const auto words = philox(seed, stream, index);
  const std::uint64_t bits = (static_cast<std::uint64_t>(words[1]) << 32) | words[0];
  return static_cast<std::uint64_t>((static_cast<Wide>(bits) * bound) >> 64);
}

Generator& default_generator() {
  thread_local Generator generator;
  return generator;
}

void fill_uniform_(Tensor& target, double low, double high, Generator& generator) {
  const std::uint64_t seed = generator.seed, stream = generator.take_stream();
  fill_by_index(target, "fill_uniform", [=](std::uint64_t index) {
    return low + (high - low) * static_cast<double>(random_uniform(seed, stream, index));
  });
}

void fill_normal_(Tensor& target, double mean, double deviation, Generator& generator) {
  const std::uint64_t seed = generator.seed, stream = generator.take_stream();
  // Box-Muller: (u1,u2) uniform in (0,1] x [0,1) give sqrt(-2 ln u1) cos(2 pi u2) and the same with sin. One Philox
  // block of four words makes two pairs: elements 4n … 4n+3.
  fill_by_index(target, "fill_normal", [=](std::uint64_t index) {
    const auto words = philox(seed, stream, index / 4);
    const std::uint64_t pair = index % 4 / 2 * 2;
    const double u1 = (static_cast<double>(words[pair]) + 1.0) * 0x1p-32;
    const double angle = 2.0 * std::numbers::pi * static_cast<double>(words[pair + 1]) * 0x1p-32;
    return mean + deviation * std::sqrt(-2.0 * std::log(u1)) * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
  });
}

Tensor rand(const Shape& shape, TensorOptions options, Generator& generator) {
  Tensor result = Tensor::empty(shape, options);
  fill_uniform_(result, 0.0, 1.0, generator);
  return result;
}

Tensor randn(const Shape& shape, TensorOptions options, Generator& generator) {
  Tensor result = Tensor::empty(shape, options);
  fill_normal_(result, 0.0, 1.0, generator);
  return result;
}

}  // namespace sq
