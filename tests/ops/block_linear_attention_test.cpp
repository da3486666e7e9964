#include "ops/block_linear_attention.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/view.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

#include <doctest/doctest.h>

#include <limits>

using namespace sq;
using namespace sq::test;

namespace {

std::vector<Tensor> random_inputs(std::int64_t batch, std::int64_t heads, std::int64_t positions, std::int64_t width,
                                  std::int64_t value_width, DType dtype = DType::f64) {
  const TensorOptions options{.dtype = dtype};
  return {randn({batch, heads, positions, width}, options), randn({batch, heads, positions, width}, options),
          randn({batch, heads, positions, value_width}, options)};
}

/// All pairs, those of one block or of a later one with weight 0.
Tensor all_pairs(const std::vector<Tensor>& in, std::int64_t block) {
  const std::int64_t positions = in[0].size(2);
  std::vector<double> earlier;
  for (std::int64_t i = 0; i < positions; ++i)
    for (std::int64_t j = 0; j < positions; ++j) earlier.push_back(j / block < i / block ? 1 : 0);
  const Tensor mask = Tensor::from(earlier, {positions, positions});
  return matmul(mul(matmul(in[0], transpose(in[1], 2, 3)), mask), in[2]);
}

Tensor attention(const std::vector<Tensor>& in, std::int64_t block) {
  return block_linear_attention(in[0], in[1], in[2], block);
}

}  // namespace

TEST_CASE("block_linear_attention: five positions by hand") {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5}, {1, 1, 5, 1}),
               v = Tensor::from<float>({1, 1, 2, 2, 9}, {1, 1, 5, 1});
  // memories 1+2 = 3 before the second block, 3+6+8 = 17 before the third
  CHECK(block_linear_attention(x, x, v, 2).to_vector<float>() == std::vector<float>{0, 0, 9, 12, 85});
}

TEST_CASE("block_linear_attention equals the sum over all pairs, gradients included") {
  const Poison poison;
  for (const std::int64_t positions : {1, 4, 5, 13, 24})
    for (const std::int64_t block : {1, 4, 100})
      for (const auto& widths : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 3}, {4, 16}}) {
        CAPTURE(positions);
        CAPTURE(block);
        check_same_function([&](const std::vector<Tensor>& in) { return attention(in, block); },
                            [&](const std::vector<Tensor>& in) { return all_pairs(in, block); },
                            random_inputs(2, 2, positions, widths.first, widths.second));
      }
}

TEST_CASE("block_linear_attention has the right gradients") {
  std::vector<Tensor> leaves = random_inputs(1, 2, 7, 2, 3);
  for (Tensor& leaf : leaves) set_requires_grad(leaf);
  check_gradients([](const std::vector<Tensor>& in) { return attention(in, 3); }, leaves);
}

TEST_CASE("block_linear_attention takes every float dtype and any strides") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(name(dtype));
    const std::vector<Tensor> in = random_inputs(2, 3, 50, 8, 5, dtype);
    std::vector<Tensor> wide;
    for (const Tensor& x : in) wide.push_back(cast(x, DType::f64));
    CHECK(attention(in, 8).dtype() == dtype);
    CHECK(relative_error(attention(in, 8), attention(wide, 8)) <= tolerance(dtype));
  }
  const std::vector<Tensor> in = random_inputs(2, 3, 50, 8, 5);
  const auto strided = [](const Tensor& x) { return transpose(packed_copy(transpose(x, 1, 2)), 1, 2); };
  const auto columns = [](const Tensor& x) { return transpose(packed_copy(transpose(x, 2, 3)), 2, 3); };
  check_close(attention({strided(in[0]), columns(in[1]), strided(in[2])}, 8), attention(in, 8));
}

TEST_CASE("block_linear_attention: nothing of a block or after it reaches it, and the bits do not depend on threads") {
  const std::vector<Tensor> in = random_inputs(1, 2, 50, 6, 4, DType::f32);
  std::vector<Tensor> changed{in[0], packed_copy(in[1]), packed_copy(in[2])};
  for (const std::size_t which : {std::size_t{1}, std::size_t{2}}) {
    Tensor later = slice(changed[which], 2, 30, 50);
    fill_(later, std::numeric_limits<double>::quiet_NaN());
  }
  const auto seen = [](const Tensor& x) { return slice(x, 2, 0, 40).to_vector<float>(); };
  CHECK(seen(attention(changed, 10)) == seen(attention(in, 10)));
  check_same_bits_for_any_thread_count([&]() -> std::vector<Tensor> { return {packed_copy(attention(in, 10))}; });
}

TEST_CASE("block_linear_attention refuses what does not fit") {
  const Tensor q = randn({1, 2, 5, 4}), v = randn({1, 2, 5, 3});
  CHECK(block_linear_attention(Tensor::zeros({1, 2, 0, 3}), Tensor::zeros({1, 2, 0, 3}), Tensor::zeros({1, 2, 0, 4}), 2)
            .shape() == Shape{1, 2, 0, 4});
  CHECK_THROWS_WITH_AS(block_linear_attention(q, q, v, 0),
                       "block_linear_attention: blocks of 0 positions; use 1 or more", Error);
  CHECK_THROWS_AS(block_linear_attention(q, randn({1, 1, 5, 4}), randn({1, 1, 5, 3}), 2), Error);
  CHECK_THROWS_AS(block_linear_attention(q, q, randn({1, 2, 4, 3}), 2), Error);
  CHECK_THROWS_AS(block_linear_attention(q, q, cast(v, DType::f64), 2), Error);
}
