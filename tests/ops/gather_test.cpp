#include "ops/gather.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor random_index(const Shape& shape, std::int64_t bound) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < index.size(); ++i)
    index[i] = static_cast<std::int64_t>(random_below(3, 1, i, static_cast<std::uint64_t>(bound)));
  return Tensor::from(index, shape);
}

}  // namespace

TEST_CASE("index_select picks slices along any axis") {
  const Tensor x = Tensor::from<std::int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor index = Tensor::from<std::int64_t>({2, 0, 2, 1}, {4});
  CHECK(index_select(x, 1, index).to_vector<int>() == std::vector<int>{3, 1, 3, 2, 6, 4, 6, 5});
  CHECK(index_select(x, -2, Tensor::from<std::int32_t>({1}, {1})).to_vector<int>() == std::vector<int>{4, 5, 6});
  const Tensor transposed = x.alias({3, 2}, {1, 3}, 0);
  CHECK(index_select(transposed, 0, index).to_vector<int>() == std::vector<int>{3, 6, 1, 4, 3, 6, 2, 5});
  CHECK(index_select(x, 0, Tensor::empty({0}, {.dtype = DType::i64})).shape() == Shape{0, 3});
}

TEST_CASE("gather takes along an axis, scatter_add puts back") {
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor index = Tensor::from<std::int64_t>({2, 2, 0, 1}, {2, 2});
  CHECK(gather(x, 1, index).to_vector<float>() == std::vector<float>{3, 3, 4, 5});
  CHECK(gather(x, 1, Tensor::from<std::int64_t>({2}, {1, 1})).to_vector<float>() == std::vector<float>{3, 6});
  CHECK(gather(x, 0, Tensor::from<std::int64_t>({1, 0, 1}, {1, 3})).to_vector<float>() == std::vector<float>{4, 2, 6});
  const Tensor y = scatter_add(x, 1, index, Tensor::from<float>({10, 20, 30, 40}, {2, 2}));
  CHECK(y.to_vector<float>() == std::vector<float>{1, 2, 33, 34, 45, 6});
  CHECK(x.to_vector<float>()[2] == 3);
}

TEST_CASE("gathering and scattering work in every dtype") {
  const Poison poison;
  const Tensor index = random_index({2, 50, 3}, 4);
  const Tensor x = randn({2, 4, 3}), source = randn({2, 50, 3});
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    const Tensor a = cast(x, dtype), b = cast(source, dtype);
    const Tensor exact = scatter_add(cast(a, DType::f64), 1, index, cast(b, DType::f64));
    check_close(scatter_add(a, 1, index, b), cast(exact, dtype));
    check_close(gather(a, 1, index), cast(gather(cast(a, DType::f64), 1, index), dtype));
    const Tensor ids = random_index({9}, 3);
    CHECK(bit_equal(cast(index_select(a, 2, ids), DType::f64), index_select(cast(a, DType::f64), 2, ids)));
  }
}

TEST_CASE("index_select, gather and scatter_add have the right gradients") {
  for (const int axis : {0, 1, 2}) {
    const Tensor ids = random_index({5}, 2), index = random_index({2, 3, 2}, 2);
    CAPTURE(axis);
    check_gradients([&](const std::vector<Tensor>& in) { return index_select(in[0], axis, ids); },
                    {variable({2, 3, 2})});
    check_gradients([&](const std::vector<Tensor>& in) { return gather(in[0], axis, index); }, {variable({2, 3, 2})});
    check_gradients([&](const std::vector<Tensor>& in) { return scatter_add(in[0], axis, index, in[1]); },
                    {variable({2, 3, 2}, 1), variable({2, 3, 2}, 2)});
  }
}

TEST_CASE("gathering and scattering give the same bits for any thread count") {
  const Tensor index = random_index({3, 400, 300}, 50), ids = random_index({500}, 50);
  const Tensor x = randn({3, 50, 300}), source = randn({3, 400, 300}), dy = randn({3, 500, 300});
  check_same_bits_for_any_thread_count([&] {
    const Tensor leaf = packed_copy(x);
    set_requires_grad(leaf);
    backward(index_select(leaf, 1, ids), dy);
    return std::vector<Tensor>{grad(leaf), scatter_add(x, 1, index, source), gather(x, 1, index)};
  });
}

TEST_CASE("index_select, gather and scatter_add say what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3}), ids = Tensor::from<std::int64_t>({3}, {1});
  CHECK_THROWS_WITH_AS(index_select(x, 1, ids), "index_select: index 3 at place 0 is outside 0 … 2", Error);
  CHECK_THROWS_WITH_AS(index_select(x, 1, Tensor::zeros({1, 1}, {.dtype = DType::i64})),
                       "index_select: the index must have one axis, not i64[1,1]@cpu", Error);
  CHECK_THROWS_WITH_AS(gather(x, 1, ids), "gather: index i64[1]@cpu does not fit [2,3] along axis 1", Error);
  CHECK_THROWS_WITH_AS(scatter_add(x, 1, Tensor::zeros({2, 2}, {.dtype = DType::i64}), Tensor::zeros({2, 3})),
                       "scatter_add: source f32[2,3]@cpu must have the index's shape [2,2]", Error);
  CHECK_THROWS_AS(gather(x, 2, ids), Error);
}
