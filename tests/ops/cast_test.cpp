#include "ops/cast.h"

#include "autograd/engine.h"
#include "tensor/cuda/runtime.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

TEST_CASE("cast rounds to nearest even and keeps special values") {
  const Tensor x = Tensor::from<float>({1.0f, -2.5f, 65504.0f, 65520.0f, 1e-8f, 6e-8f, INFINITY, NAN}, {8});
  const std::vector<float> half = cast(x, DType::f16).to_vector<float>();
  CHECK(half[2] == 65504.0f);
  CHECK(half[3] == INFINITY);  // halfway to the next power: rounds up to infinity
  CHECK(half[4] == 0.0f);
  CHECK(half[5] == 0x1p-24f);  // the smallest subnormal
  CHECK(half[6] == INFINITY);
  CHECK(std::isnan(half[7]));
  const std::vector<float> brain =
      cast(Tensor::from<float>({1.00390625f, 1.01171875f, 3.4e38f}, {3}), DType::bf16).to_vector<float>();
  CHECK(brain[0] == 1.0f);  // a tie goes to the even neighbour
  CHECK(brain[1] == 1.015625f);
  CHECK(brain[2] == INFINITY);
  CHECK(cast(x, DType::f32).shares_memory_with(x));
}

TEST_CASE("every 16-bit pattern survives the way to f32 and back") {
  std::vector<f16> halves(65536);
  std::vector<bf16> brains(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i].bits = brains[i].bits = static_cast<std::uint16_t>(i);
  const Tensor h = Tensor::from(halves, {65536}), b = Tensor::from(brains, {65536});
  const Tensor h2 = moved(cast(cast(h, DType::f32), DType::f16), Device{});
  const Tensor b2 = moved(cast(cast(b, DType::f32), DType::bf16), Device{});
  for (std::size_t i = 0; i < halves.size(); ++i) {
    const float value = halves[i], brain = brains[i];
    if (!std::isnan(value)) REQUIRE(h2.data<f16>()[i].bits == i);
    if (!std::isnan(brain)) REQUIRE(b2.data<bf16>()[i].bits == i);
  }
}

TEST_CASE("the gradient of cast comes back in the input's dtype") {
  const Tensor x = randn({3});
  set_requires_grad(x);
  backward(cast(x, DType::f64), Tensor::from<double>({1, 2, 3}, {3}));
  CHECK(grad(x).dtype() == DType::f32);
  CHECK(grad(x).to_vector<float>() == std::vector<float>{1, 2, 3});
}

TEST_CASE("values and gradients go from device to device" * doctest::skip(cuda::device_count() == 0)) {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  set_requires_grad(x);
  const Device other = x.device().is_cpu() ? cuda_device(0) : Device{};
  CHECK(to(x, x.device()).shares_memory_with(x));
  const Tensor y = to(x, other);
  CHECK(y.device() == other);
  CHECK(bit_equal(y, x));
  backward(y, to(Tensor::from<float>({6, 5, 4, 3, 2, 1}, {2, 3}), other));
  CHECK(grad(x).device() == x.device());
  CHECK(grad(x).to_vector<float>() == std::vector<float>{6, 5, 4, 3, 2, 1});
}
