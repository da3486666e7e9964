#include "ops/embedding.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/support/compare.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor random_ids(const Shape& shape, std::int64_t bound, std::uint64_t stream = 0) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int64_t>(random_below(9, stream, i, static_cast<std::uint64_t>(bound)));
  return Tensor::from(ids, shape);
}

/// Σ of the dy rows of each id, in f64.
Tensor reference_gradient(const Tensor& ids, const Tensor& dy, std::int64_t rows) {
  const std::int64_t columns = dy.size(-1);
  std::vector<double> sums(static_cast<std::size_t>(rows * columns));
  const std::vector<double> values = dy.to_vector<double>();
  const std::vector<std::int64_t> index = ids.to_vector<std::int64_t>();
  for (std::size_t j = 0; j < index.size(); ++j)
    for (std::int64_t c = 0; c < columns; ++c)
      sums[static_cast<std::size_t>(index[j] * columns + c)] +=
          values[j * static_cast<std::size_t>(columns) + static_cast<std::size_t>(c)];
  return cast(Tensor::from(sums, {rows, columns}), dy.dtype());
}

}  // namespace

TEST_CASE("embedding picks the rows of the ids") {
  const Tensor table = Tensor::from<float>({0, 1, 10, 11, 20, 21}, {3, 2});
  const Tensor y = embedding(table, Tensor::from<std::int32_t>({2, 0, 2, 1}, {2, 2}));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(y.to_vector<float>() == std::vector<float>{20, 21, 0, 1, 20, 21, 10, 11});
  const Tensor strided = table.alias({2, 3}, {1, 2}, 0);  // [[0,10,20],[1,11,21]]
  CHECK(embedding(strided, Tensor::from<std::int64_t>({1}, {1})).to_vector<float>() == std::vector<float>{1, 11, 21});
}

TEST_CASE("embedding adds the gradients of repeated ids, in every dtype") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& size :
         {std::array<std::int64_t, 3>{5, 3, 0}, {1, 1, 1}, {7, 300, 40}, {1000, 17, 20}, {3, 33, 999}}) {
      const std::int64_t rows = size[0], columns = size[1], count = size[2];
      CAPTURE(rows);
      const Tensor table = cast(randn({rows, columns}), dtype), ids = random_ids({count}, rows);
      const Tensor dy = cast(randn({count, columns}), dtype);
      set_requires_grad(table);
      const Tensor y = embedding(table, ids);
      CHECK(y.dtype() == dtype);
      if (count == 0) continue;
      backward(y, dy);
      check_close(grad(table), reference_gradient(ids, dy, rows));
    }
}

TEST_CASE("embedding adds to the gradient that its table has, in place where it may") {
  const Tensor table = randn({50, 7}), ids = random_ids({90}, 40), dy = randn({90, 7}), before = randn({50, 7});
  const auto gradient = [&](bool seen) {
    const Tensor weight = packed_copy(table);
    set_requires_grad(weight);
    Tensor start = packed_copy(before);
    set_grad(weight, start);
    if (!seen) start = {};
    backward(embedding(weight, ids), dy);
    if (seen) CHECK(bit_equal(start, before));  // what others hold stays as it is
    return grad(weight);
  };
  const Tensor in_place = gradient(false);
  CHECK(bit_equal(in_place, gradient(true)));
  Tensor expected = cast(reference_gradient(ids, dy, 50), DType::f32);
  accumulate_(expected, before);
  check_close(in_place, expected);
}

TEST_CASE("embedding gives a table that is also a matrix one gradient") {
  const Tensor ids = random_ids({2, 5}, 4);
  check_gradients([&](const std::vector<Tensor>& in) { return matmul(embedding(in[0], ids), transpose(in[0], 0, 1)); },
                  {variable({4, 3})});
  const Tensor table = randn({4, 3});
  set_requires_grad(table);
  const AnomalyMode watched;  // there each gradient is returned and looked at by itself
  backward(sum(matmul(embedding(table, ids), transpose(table, 0, 1))));
  CHECK(grad(table).numel() == 12);
}

TEST_CASE("embedding has the right gradient") {
  const Tensor ids = random_ids({2, 5}, 4);
  check_gradients([&](const std::vector<Tensor>& in) { return embedding(in[0], ids); }, {variable({4, 3})});
}

TEST_CASE("embedding gives the same bits for any thread count") {
  const Tensor table = randn({600, 130}), ids = random_ids({3000}, 600), dy = randn({3000, 130});
  check_same_bits_for_any_thread_count([&] {
    const Tensor weight = packed_copy(table);
    set_requires_grad(weight);
    const Tensor y = embedding(weight, ids);
    backward(y, dy);
    return std::vector<Tensor>{y, grad(weight)};
  });
}

TEST_CASE("embedding says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor table = Tensor::zeros({5, 2});
  CHECK_THROWS_WITH_AS(embedding(table, Tensor::from<std::int64_t>({0, 5}, {2})),
                       "embedding: index 5 at place 1 is outside 0 … 4", Error);
  CHECK_THROWS_WITH_AS(embedding(table, Tensor::from<std::int32_t>({-1}, {1})),
                       "embedding: index -1 at place 0 is outside 0 … 4", Error);
  CHECK_THROWS_WITH_AS(embedding(table, Tensor::zeros({2})), "embedding: indices must be i64 or i32, not f32[2]@cpu",
                       Error);
  CHECK_THROWS_WITH_AS(embedding(Tensor::zeros({5}), Tensor::from<std::int64_t>({0}, {1})),
                       "embedding: the table must be a float matrix [V,C], not f32[5]@cpu", Error);
}
