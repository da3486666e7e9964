#include "ops/cumsum.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

/// The sums of the first 1, 2, … indices, one by one.
Tensor reference(const Tensor& x, int axis) {
  const Tensor wide = cast(x, DType::f64);
  std::vector<Tensor> sums;
  for (std::int64_t i = 0; i < x.size(axis); ++i) sums.push_back(sum(slice(wide, axis, 0, i + 1), {axis}));
  return sums.empty() ? wide : stack(sums, axis);
}

}  // namespace

TEST_CASE("cumsum worked out by hand") {
  const Tensor x = Tensor::from<double>({1, 2, 3, 10, 20, 30}, {2, 3});
  CHECK(cumsum(x, 1).to_vector<double>() == std::vector<double>{1, 3, 6, 10, 30, 60});
  CHECK(cumsum(x, 0).to_vector<double>() == std::vector<double>{1, 2, 3, 11, 22, 33});
}

TEST_CASE("cumsum equals the reference in every dtype, along any axis") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1}, Shape{63}, Shape{0, 3}, Shape{5, 1, 7}, Shape{3, 4, 300}}) {
      CAPTURE(to_string(shape));
      const Tensor x = cast(randn(shape), dtype);
      for (int axis = 0; axis < shape.rank(); ++axis) check_close(cumsum(x, axis), reference(x, axis));
    }
  const Tensor x = randn({7, 9});
  CHECK(bit_equal(cumsum(transpose(x, 0, 1), -1), cumsum(packed_copy(transpose(x, 0, 1)), -1)));
}

TEST_CASE("gradients of cumsum") {
  for (int axis = 0; axis < 3; ++axis)
    check_gradients([axis](const std::vector<Tensor>& in) { return cumsum(mul(in[0], in[0]), axis); },
                    {variable({2, 5, 3})});
}

TEST_CASE("cumsum gives the same bits for any thread count") {
  const Tensor x = randn({300, 401});
  std::vector<Tensor> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    results.push_back(concat({cumsum(x, 0), cumsum(x, 1)}, 0));
  }
  cpu::set_thread_count(threads);
  CHECK(bit_equal(results[0], results[1]));
  CHECK(bit_equal(results[0], results[2]));
}

TEST_CASE("cumsum says what is wrong") {
  CHECK_THROWS_WITH_AS(cumsum(Tensor::zeros({2}), 1), "cumsum: axis 1 is out of range for a tensor of rank 1", Error);
  CHECK_THROWS_WITH_AS(cumsum(Tensor::arange(2), 0), "cumsum: dtype i64 is not supported; use f32 or f64", Error);
}
