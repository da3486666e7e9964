#include "ops/gradient_norm.h"

#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {
double norm_of(std::span<const Tensor> gradients) { return gradient_norm(gradients).item(); }
}  // namespace

TEST_CASE("gradient_norm is the length of all gradients taken together") {
  const std::vector<Tensor> gradients = {Tensor::from<float>({3, 0}, {2}), Tensor(),
                                         Tensor::from<double>({4, 12}, {2, 1}), Tensor::zeros({0, 5})};
  CHECK(norm_of(gradients) == 13);
  CHECK(norm_of({}) == 0);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const std::int64_t count : {1, 63, 70001}) {
      const Tensor x = cast(randn({count}), dtype);
      double squares = 0;
      for (const double v : x.to_vector<double>()) squares += v * v;
      CHECK(norm_of({&x, 1}) == doctest::Approx(std::sqrt(squares)).epsilon(1e-13));
    }
}

TEST_CASE("gradient_norm neither overflows nor drowns small values, and shows what is not finite") {
  const std::vector<Tensor> huge = {Tensor::full({4}, 2e38)};
  CHECK(norm_of(huge) == doctest::Approx(4e38).epsilon(1e-6));
  const std::vector<Tensor> mixed = {Tensor::from<float>({1e6f}, {1}), Tensor::ones({1000000})};
  CHECK(norm_of(mixed) == doctest::Approx(std::sqrt(1e12 + 1e6)).epsilon(1e-14));
  const std::vector<Tensor> bad = {Tensor::from<float>({1, NAN}, {2})}, inf = {Tensor::from<float>({-INFINITY}, {1})};
  CHECK_FALSE(std::isfinite(norm_of(bad)));
  CHECK_FALSE(std::isfinite(norm_of(inf)));
}

TEST_CASE("gradient_norm takes tensors that begin anywhere, and many of them") {
  const Tensor x = randn({20000});
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0, count = 1; begin < 20000;
       begin += count, count = std::min(2 * count % 201, 20000 - begin))
    parts.push_back(x.alias({count}, {1}, begin));
  CHECK(parts.size() > 128);
  CHECK(norm_of(parts) == doctest::Approx(norm_of({&x, 1})).epsilon(1e-14));
  scale_(parts, 2);
  CHECK(norm_of(parts) == doctest::Approx(norm_of({&x, 1})).epsilon(1e-14));
}

TEST_CASE("gradient_norm reads strided gradients and gives the same bits for any thread count") {
  const Tensor x = randn({300, 401});
  const Tensor turned = x.alias({401, 300}, {1, 401}, 0);
  CHECK(norm_of({&turned, 1}) == doctest::Approx(norm_of({&x, 1})).epsilon(1e-14));
  check_same_bits_for_any_thread_count([&] { return std::vector<Tensor>{gradient_norm({&x, 1})}; });
}

TEST_CASE("scale_ changes tensors in place, any dtype and strides") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    const Tensor x = cast(Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3}), dtype);
    std::vector<Tensor> parts = {x.alias({2}, {3}, 0), x.alias({2}, {1}, 4)};
    const std::uint64_t version = x.version();
    scale_(parts, 0.5);
    CHECK(x.to_vector<double>() == std::vector<double>{0.5, 2, 3, 2, 2.5, 3});
    CHECK(x.version() > version);
  }
}

TEST_CASE("gradient_norm and its friends say what is wrong" * doctest::test_suite("cpu")) {
  Tensor integers = Tensor::arange(3);
  CHECK_THROWS_WITH_AS(gradient_norm({&integers, 1}), "gradient_norm: i64[3]@cpu does not hold floats", Error);
  CHECK_THROWS_WITH_AS(scale_({&integers, 1}, 2), "scale: i64[3]@cpu does not hold floats", Error);
}
