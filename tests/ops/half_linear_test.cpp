#include "ops/half_linear.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

/// The same product with the rounded weight widened first.
Tensor widened(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  return linear(x, cast(weight, DType::f32), bias);
}

Tensor half(const Shape& shape, DType dtype) { return packed_copy(randn(shape), dtype); }

}  // namespace

TEST_CASE("half_linear: a case by hand") {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
  const Tensor weight = packed_copy(Tensor::from<float>({1, 0.5, -1, 2, 0.25, 0}, {3, 2}), DType::bf16);
  const Tensor y = half_linear(x, weight, Tensor::from<float>({0, 1, 0}, {3}));
  CHECK(y.to_vector<float>() == std::vector<float>{2, 4, 0.25, 5, 6, 0.75});
}

TEST_CASE("half_linear: equals linear with the weight widened, whatever the number of rows") {
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const std::int64_t rows : {1, 3, 8, 9, 32, 70})
      for (const Shape& weight : {Shape{1, 1}, Shape{5, 63}, Shape{300, 129}, Shape{67, 257}}) {
        CAPTURE(rows);
        CAPTURE(weight[0]);
        const Tensor x = randn({rows, weight[1]}), w = half(weight, dtype), bias = randn({weight[0]});
        check_close(half_linear(x, w, bias), widened(x, w, bias));
        check_close(linear(x, w), widened(x, w, {}));  // where linear() goes
      }
}

TEST_CASE("half_linear: leading axes, views and nothing at all") {
  const Tensor w = half({6, 8}, DType::bf16);
  const Tensor x = transpose(randn({2, 8, 3}), 1, 2);
  CHECK(half_linear(x, w).shape() == Shape{2, 3, 6});
  check_close(half_linear(x, w), widened(x, w, {}));
  const Tensor columns = half({8, 6}, DType::bf16);
  check_close(half_linear(x, transpose(columns, 0, 1)), widened(x, transpose(columns, 0, 1), {}));
  CHECK(half_linear(Tensor::zeros({0, 8}), w).shape() == Shape{0, 6});
}

TEST_CASE("half_linear: the gradients of x and bias are those of linear") {
  const Tensor w = half({7, 5}, DType::bf16);
  const Tensor x = randn({4, 5}), bias = randn({7}), x2 = packed_copy(x), bias2 = packed_copy(bias);
  for (const Tensor& leaf : {x, bias, x2, bias2}) set_requires_grad(leaf);
  const Tensor seed = randn({4, 7});
  backward(half_linear(x, w, bias), seed);
  backward(widened(x2, w, bias2), seed);
  check_close(grad(x), grad(x2));
  check_close(grad(bias), grad(bias2));
}

TEST_CASE("half_linear: the same bits for any number of threads") {
  const Tensor x = randn({1, 288}), w = half({2000, 288}, DType::bf16);
  check_same_bits_for_any_thread_count([&] { return std::vector<Tensor>{half_linear(x, w)}; });
}

TEST_CASE("half_linear: what it refuses" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 4}), w = half({3, 4}, DType::bf16);
  CHECK_THROWS_WITH(half_linear(packed_copy(x, DType::f64), w),
                    "half_linear: x f64[2,4]@cpu must be f32 and the weight bf16[3,4]@cpu bf16 or f16, on one device");
  CHECK_THROWS_WITH(half_linear(Tensor::zeros({2, 5}), w),
                    "half_linear: weight bf16[3,4]@cpu, which is [out,in], does not fit the last axis of f32[2,5]@cpu");
  CHECK_THROWS_WITH(half_linear(x, w, Tensor::zeros({2})),
                    "half_linear: bias f32[2]@cpu does not fit weight bf16[3,4]@cpu; it must be f32");
  set_requires_grad(w);
  CHECK_THROWS_WITH(half_linear(x, w), doctest::Contains("cannot be trained in 16 bits beside an f32 x"));
}
