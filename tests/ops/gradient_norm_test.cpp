#include "ops/gradient_norm.h"

#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

TEST_CASE("gradient_norm is the length of all gradients taken together") {
  const std::vector<Tensor> gradients = {Tensor::from<float>({3, 0}, {2}), Tensor(),
                                         Tensor::from<double>({4, 12}, {2, 1}), Tensor::zeros({0, 5})};
  CHECK(gradient_norm(gradients) == 13);
  CHECK(gradient_norm({}) == 0);
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const std::int64_t count : {1, 63, 70001}) {
      const Tensor x = cast(randn({count}), dtype);
      double squares = 0;
      for (const double v : x.to_vector<double>()) squares += v * v;
      CHECK(gradient_norm({&x, 1}) == doctest::Approx(std::sqrt(squares)).epsilon(1e-13));
    }
}

TEST_CASE("gradient_norm neither overflows nor drowns small values, and shows what is not finite") {
  const std::vector<Tensor> huge = {Tensor::full({4}, 2e38)};
  CHECK(gradient_norm(huge) == doctest::Approx(4e38).epsilon(1e-6));
  const std::vector<Tensor> mixed = {Tensor::from<float>({1e6f}, {1}), Tensor::ones({1000000})};
  CHECK(gradient_norm(mixed) == doctest::Approx(std::sqrt(1e12 + 1e6)).epsilon(1e-14));
  const std::vector<Tensor> bad = {Tensor::from<float>({1, NAN}, {2})}, inf = {Tensor::from<float>({-INFINITY}, {1})};
  CHECK_FALSE(std::isfinite(gradient_norm(bad)));
  CHECK_FALSE(std::isfinite(gradient_norm(inf)));
}

TEST_CASE("gradient_norm takes tensors that begin anywhere, and many of them") {
  const Tensor x = randn({20000});
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0, count = 1; begin < 20000;
       begin += count, count = std::min(2 * count % 201, 20000 - begin))
    parts.push_back(x.alias({count}, {1}, begin));
  CHECK(parts.size() > 128);
  CHECK(gradient_norm(parts) == doctest::Approx(gradient_norm({&x, 1})).epsilon(1e-14));
  scale_(parts, 2);
  CHECK(gradient_norm(parts) == doctest::Approx(gradient_norm({&x, 1})).epsilon(1e-14));
}

TEST_CASE("gradient_norm reads strided gradients and gives the same bits for any thread count") {
  const Tensor x = randn({300, 401});
  const Tensor turned = x.alias({401, 300}, {1, 401}, 0);
  CHECK(gradient_norm({&turned, 1}) == doctest::Approx(gradient_norm({&x, 1})).epsilon(1e-14));
  check_same_bits_for_any_thread_count([&] {
    return std::vector<Tensor>{Tensor::scalar(gradient_norm({&x, 1}), {.dtype = DType::f64})};
  });
}

TEST_CASE("clipping scales a gradient down to the largest norm, never up") {
  std::vector<Tensor> gradients = {Tensor::from<float>({3}, {1}), Tensor::from<float>({4}, {1})};
  CHECK(clip_factor(gradient_norm(gradients), 10) == 1);
  const double factor = clip_factor(gradient_norm(gradients), 1);
  CHECK(factor == doctest::Approx(1 / (5 + 1e-6)).epsilon(1e-14));
  scale_(gradients, factor);
  CHECK(gradient_norm(gradients) == doctest::Approx(1).epsilon(1e-6));
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
  CHECK_THROWS_WITH_AS(clip_factor(1, 0), "clip_factor: the largest norm 0 is not positive", Error);
  CHECK_THROWS_AS(clip_factor(1, NAN), Error);
  CHECK_THROWS_WITH_AS(clip_factor(INFINITY, 1), "clip_factor: the norm is inf; leave this update out", Error);
}
