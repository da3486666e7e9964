#include "ops/sort.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

#include <numeric>

using namespace sq;
using namespace sq::test;

namespace {

using Indices = std::vector<std::int64_t>;

/// The stable order of a row, NaN as the largest.
Indices order(const std::vector<double>& row, bool descending) {
  Indices places(row.size());
  std::iota(places.begin(), places.end(), 0);
  const auto key = [&](std::int64_t i) { return row[static_cast<std::size_t>(i)]; };
  const auto less = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
  std::stable_sort(places.begin(), places.end(), [&](std::int64_t a, std::int64_t b) {
    return descending ? less(key(b), key(a)) : less(key(a), key(b));
  });
  return places;
}

/// Few distinct values, so that many are equal.
Tensor with_ties(const Shape& shape, DType dtype) {
  std::vector<double> values(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(random_below(5, 0, i, 7)) - 3;
  return cast(Tensor::from(values, shape), dtype);
}

}  // namespace

TEST_CASE("sort is stable in both directions and every dtype") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const bool descending : {false, true})
      for (const Shape& shape : {Shape{1}, Shape{63}, Shape{0}, Shape{4, 127}, Shape{2, 0, 3}}) {
        CAPTURE(to_string(shape));
        const Tensor x = with_ties(shape, dtype);
        const Sorted sorted = sort(x, -1, descending);
        CHECK(sorted.values.shape() == shape);
        CHECK(sorted.values.dtype() == dtype);
        const Tensor rows = reshape(x, {shape.rank() == 1 ? 1 : shape[0], shape[shape.rank() - 1] == 0 ? 0 : -1});
        for (std::int64_t row = 0; x.numel() > 0 && row < rows.size(0); ++row) {
          const std::vector<double> values = select(rows, 0, row).to_vector<double>();
          const Indices wanted = order(values, descending);
          const Tensor places = reshape(sorted.indices, rows.shape());
          CHECK(select(places, 0, row).to_vector<std::int64_t>() == wanted);
          std::vector<double> in_order;
          for (const std::int64_t i : wanted) in_order.push_back(values[static_cast<std::size_t>(i)]);
          CHECK(select(reshape(sorted.values, rows.shape()), 0, row).to_vector<double>() == in_order);
        }
      }
}

TEST_CASE("sort and topk treat NaN as the largest and keep infinities in place") {
  const Tensor x = Tensor::from<float>({2, NAN, -INFINITY, INFINITY, NAN, 0}, {6});
  CHECK(sort(x).indices.to_vector<std::int64_t>() == Indices{2, 5, 0, 3, 1, 4});
  CHECK(sort(x, 0, true).indices.to_vector<std::int64_t>() == Indices{1, 4, 3, 0, 5, 2});
  CHECK(topk(x, 3).indices.to_vector<std::int64_t>() == Indices{1, 4, 3});
}

TEST_CASE("topk is the head of a descending sort") {
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
    const Tensor x = with_ties({3, 50, 4}, dtype);
    for (const int axis : {0, 1, 2})
      for (const std::int64_t k : {std::int64_t{0}, std::int64_t{1}, std::int64_t{3}, x.size(axis)}) {
        if (k > x.size(axis)) continue;
        const Sorted all = sort(x, axis, true), top = topk(x, k, axis);
        CHECK(bit_equal(top.values, slice(all.values, axis, 0, k)));
        CHECK(bit_equal(top.indices, slice(all.indices, axis, 0, k)));
      }
  }
}

TEST_CASE("sort along an axis of a view") {
  const Tensor x = randn({5, 40, 3});
  CHECK(bit_equal(sort(transpose(x, 1, 2), 2).values, sort(packed_copy(transpose(x, 1, 2)), 2).values));
  CHECK(bit_equal(transpose(sort(x, 1).values, 1, 2), sort(transpose(x, 1, 2), 2).values));
  CHECK(sort(x, 0).values.is_contiguous());
}

TEST_CASE("gradients of sort and topk") {
  check_gradients([](const std::vector<Tensor>& in) { return mul(sort(in[0]).values, sort(in[0], 0, true).values); },
                  {variable({4, 4})});
  check_gradients([](const std::vector<Tensor>& in) { return topk(mul(in[0], in[0]), 2, 1).values; },
                  {variable({3, 5, 2})});
  check_gradients([](const std::vector<Tensor>& in) { return topk(in[0], 0).values; }, {variable({3, 5})});
}

TEST_CASE("sort gives the same bits for any thread count") {
  const Tensor x = with_ties({90, 211}, DType::f32);
  std::vector<Tensor> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    results.push_back(topk(x, 20).indices);
  }
  cpu::set_thread_count(threads);
  CHECK(bit_equal(results[0], results[1]));
  CHECK(bit_equal(results[0], results[2]));
}

TEST_CASE("sort and topk say what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(topk(x, 4), "topk: 4 values cannot be taken along axis 1 of f32[2,3]@cpu", Error);
  CHECK_THROWS_AS(topk(x, -1), Error);
  CHECK_THROWS_WITH_AS(sort(x, 2), "sort: axis 2 is out of range for a tensor of rank 2", Error);
  CHECK_THROWS_WITH_AS(sort(Tensor::arange(3)), "sort: dtype i64 is not supported; use f32 or f64", Error);
}
