#include "ops/block_retrieval.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/softmax.h"
#include "ops/view.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace sq;
using namespace sq::test;

namespace {

struct Sizes {
  std::int64_t batch, heads, positions, block, width, value_width, key_width;
  bool per_position;
  std::int64_t blocks() const { return (positions + block - 1) / block; }
};

/// q, r, h, F
std::vector<Tensor> random_inputs(const Sizes& s, DType dtype = DType::f64) {
  const TensorOptions options{.dtype = dtype};
  const std::int64_t n = s.blocks();
  return {randn({s.batch, s.heads, s.positions, s.width}, options),
          randn({s.batch, s.heads, s.per_position ? s.positions : n, s.key_width}, options),
          randn({s.batch, s.heads, n, s.key_width}, options),
          randn({s.batch, s.heads, n, s.width, s.value_width}, options)};
}

/// One position after the other, from the definition.
Tensor from_definition(const std::vector<Tensor>& in, std::int64_t block, double scale,
                       const std::vector<std::uint8_t>& exists = {}) {
  const Tensor &q = in[0], &r = in[1], &h = in[2], &states = in[3];
  const std::int64_t n = h.size(2);
  std::vector<Tensor> rows;
  for (std::int64_t t = 0; t < q.size(2); ++t) {
    const std::int64_t c = t / block, own = r.size(2) == n ? c : t;
    std::vector<std::int64_t> seen;
    for (std::int64_t b = 0; b < c; ++b)
      if (exists.empty() || exists[static_cast<std::size_t>(b)]) seen.push_back(b);
    if (seen.empty()) {
      rows.push_back(Tensor::zeros({q.size(0), q.size(1), 1, states.size(4)}, q.options()));
      continue;
    }
    const Tensor which = Tensor::from(seen, {static_cast<std::int64_t>(seen.size())});
    const Tensor keys = index_select(h, 2, which), memories = index_select(states, 2, which);
    const Tensor p = softmax(mul(matmul(slice(r, 2, own, own + 1), transpose(keys, 2, 3)), scale));
    const Tensor mixture = sum(mul(reshape(p, {q.size(0), q.size(1), which.size(0), 1, 1}), memories), {2});
    rows.push_back(matmul(slice(q, 2, t, t + 1), mixture));
  }
  Tensor nothing = Tensor::zeros({}, q.options());  // so that the result depends on all inputs
  for (const Tensor& x : in) nothing = add(nothing, mul(sum(x), 0));
  return add(concat(rows, 2), nothing);
}

}  // namespace

TEST_CASE("block_retrieval: three blocks by hand") {
  // Blocks of two positions with memories 2, 4, 8; equal scores, so that the third block reads (2+4)/2.
  const Tensor q = Tensor::from<float>({1, 2, 3, 4, 5}, {1, 1, 5, 1});
  const Tensor zero = Tensor::zeros({1, 1, 3, 1}), states = Tensor::from<float>({2, 4, 8}, {1, 1, 3, 1, 1});
  CHECK(block_retrieval(q, zero, zero, states, 2).to_vector<float>() == std::vector<float>{0, 0, 6, 8, 15});
  // Scores ln 3 · r for block 0 and 0 for block 1: weights 3/4 and 1/4 where r = 1.
  const Tensor keys = Tensor::from<float>({std::log(3.0f), 0, 0}, {1, 1, 3, 1});
  const Tensor own = Tensor::from<float>({0, 0, 0, 0, 1}, {1, 1, 5, 1});
  CHECK(block_retrieval(q, own, keys, states, 2, {.scale = 1}).to_vector<double>().back() ==
        doctest::Approx(5 * (2 * 0.75 + 4 * 0.25)));
  const Tensor exists = Tensor::from<std::uint8_t>({0, 1, 1}, {1, 3});
  CHECK(block_retrieval(q, zero, zero, states, 2, {.exists = exists}).to_vector<float>() ==
        std::vector<float>{0, 0, 0, 0, 20});
}

TEST_CASE("block_retrieval equals its definition, gradients included") {
  const Poison poison;
  for (const Sizes& s : {Sizes{2, 2, 1, 4, 3, 2, 2, false},
                         {2, 2, 4, 4, 3, 2, 2, false},
                         {1, 2, 13, 4, 3, 5, 2, false},
                         {2, 1, 24, 1, 2, 3, 4, false},
                         {1, 1, 90, 1, 2, 1, 3, false},
                         {2, 2, 13, 4, 3, 5, 2, true},
                         {1, 2, 24, 8, 9, 3, 4, true},
                         {1, 1, 21, 2, 2, 1, 3, true},
                         {1, 1, 5, 9, 2, 2, 2, true}}) {
    CAPTURE(s.positions);
    CAPTURE(s.block);
    CAPTURE(s.per_position);
    check_same_function(
        [&](const std::vector<Tensor>& in) {
          return block_retrieval(in[0], in[1], in[2], in[3], s.block, {.scale = 0.7});
        },
        [&](const std::vector<Tensor>& in) { return from_definition(in, s.block, 0.7); }, random_inputs(s));
  }
}

TEST_CASE("block_retrieval leaves out blocks that do not exist") {
  const Poison poison;
  const std::vector<std::uint8_t> exists{0, 1, 0, 0, 1, 1};
  for (const bool per_position : {false, true}) {
    const Sizes s{1, 2, 17, 3, 3, 2, 2, per_position};
    check_same_function(
        [&](const std::vector<Tensor>& in) {
          return block_retrieval(in[0], in[1], in[2], in[3], s.block, {.exists = Tensor::from(exists, {1, 6})});
        },
        [&](const std::vector<Tensor>& in) { return from_definition(in, s.block, 1 / std::sqrt(2.0), exists); },
        random_inputs(s));
  }
}

TEST_CASE("block_retrieval has the right gradients") {
  for (const bool per_position : {false, true}) {
    std::vector<Tensor> leaves = random_inputs({1, 2, 11, 3, 2, 3, 2, per_position});
    for (Tensor& leaf : leaves) set_requires_grad(leaf);
    check_gradients([](const std::vector<Tensor>& in) { return block_retrieval(in[0], in[1], in[2], in[3], 3); },
                    leaves);
  }
}

TEST_CASE("block_retrieval takes every float dtype and any strides") {
  const Poison poison;
  for (const bool per_position : {false, true}) {
    const Sizes s{2, 3, 50, 8, 8, 5, 4, per_position};
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(name(dtype));
      const std::vector<Tensor> in = random_inputs(s, dtype);
      std::vector<Tensor> wide;
      for (const Tensor& x : in) wide.push_back(cast(x, DType::f64));
      const Tensor got = block_retrieval(in[0], in[1], in[2], in[3], s.block);
      CHECK(got.dtype() == dtype);
      CHECK(relative_error(got, block_retrieval(wide[0], wide[1], wide[2], wide[3], s.block)) <= tolerance(dtype));
    }
    const std::vector<Tensor> in = random_inputs(s);
    const auto strided = [](const Tensor& x) { return transpose(packed_copy(transpose(x, 1, 2)), 1, 2); };
    const auto columns = [](const Tensor& x) { return transpose(packed_copy(transpose(x, 2, 3)), 2, 3); };
    check_close(block_retrieval(strided(in[0]), columns(in[1]), strided(in[2]), columns(in[3]), s.block),
                block_retrieval(in[0], in[1], in[2], in[3], s.block));
    const Tensor same = expand(slice(in[1], 2, 0, 1), in[1].shape());
    check_close(block_retrieval(in[0], same, in[2], in[3], s.block),
                block_retrieval(in[0], packed_copy(same), in[2], in[3], s.block));
  }
}

TEST_CASE("block_retrieval: no block reaches positions of its own or earlier ones" * doctest::test_suite("cpu")) {
  for (const bool per_position : {false, true}) {
    const std::vector<Tensor> in = random_inputs({1, 2, 150, 2, 3, 4, 3, per_position}, DType::f32);
    const Tensor before = block_retrieval(in[0], in[1], in[2], in[3], 2);
    for (const std::int64_t block : {0, 5, 69, 74}) {
      std::vector<Tensor> changed = in;
      for (const std::size_t which : {std::size_t{2}, std::size_t{3}}) {
        changed[which] = packed_copy(in[which]);
        Tensor later = slice(changed[which], 2, block, 75);
        fill_(later, std::numeric_limits<double>::quiet_NaN());
      }
      const Tensor after = block_retrieval(changed[0], changed[1], changed[2], changed[3], 2);
      const std::int64_t end = 2 * (block + 1);
      CHECK(slice(after, 2, 0, end).to_vector<float>() == slice(before, 2, 0, end).to_vector<float>());
    }
  }
}

TEST_CASE("block_retrieval gives the same bits for any number of threads") {
  for (const bool per_position : {false, true})
    for (const std::int64_t heads : {1, 5}) {
      const std::vector<Tensor> in = random_inputs({1, heads, 200, 2, 8, 8, 4, per_position}, DType::f32);
      const Tensor dy = randn({1, heads, 200, 8});
      check_same_bits_for_any_thread_count([&] {
        std::vector<Tensor> results;
        for (const Tensor& x : in) {
          set_grad(x, {});
          set_requires_grad(x);
        }
        const Tensor y = block_retrieval(in[0], in[1], in[2], in[3], 2);
        results.push_back(packed_copy(detach(y)));
        backward(y, dy);
        for (const Tensor& x : in) results.push_back(packed_copy(grad(x)));
        return results;
      });
    }
}

TEST_CASE("block_retrieval on nothing is nothing") {
  const Tensor none = Tensor::zeros({1, 2, 0, 3});
  CHECK(block_retrieval(none, none, none, Tensor::zeros({1, 2, 0, 3, 4}), 5).shape() == Shape{1, 2, 0, 4});
}

TEST_CASE("block_retrieval refuses what does not fit" * doctest::test_suite("cpu")) {
  const Tensor q = randn({1, 2, 5, 4}), r = randn({1, 2, 3, 6}), states = randn({1, 2, 3, 4, 4});
  CHECK_THROWS_WITH_AS(block_retrieval(q, r, r, states, 0), "block_retrieval: blocks of 0 positions; use 1 or more",
                       Error);
  CHECK_THROWS_WITH_AS(block_retrieval(q, r, r, states, 3),
                       "block_retrieval: h f32[1,2,3,6]@cpu and states f32[1,2,3,4,4]@cpu need 2 blocks of 3 positions "
                       "for q f32[1,2,5,4]@cpu",
                       Error);
  CHECK_THROWS_WITH_AS(block_retrieval(q, randn({1, 2, 4, 6}), r, states, 2),
                       "block_retrieval: r f32[1,2,4,6]@cpu must have 3 rows, one a block, or 5", Error);
  CHECK_THROWS_AS(block_retrieval(q, randn({1, 2, 3, 5}), r, states, 2), Error);
  CHECK_THROWS_AS(block_retrieval(q, r, r, randn({1, 2, 3, 3, 4}), 2), Error);
  CHECK_THROWS_AS(block_retrieval(q, r, r, randn({1, 1, 3, 4, 4}), 2), Error);
  CHECK_THROWS_AS(block_retrieval(q, r, cast(r, DType::f64), states, 2), Error);
  CHECK_THROWS_AS(block_retrieval(q, r, r, states, 2, {.exists = Tensor::ones({1, 3})}), Error);
}
