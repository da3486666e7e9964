#include "ops/reduce.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

using Fold = std::function<double(const std::vector<double>&)>;

/// Reduces by collecting, for every element of the result, all that it is made of.
Tensor reference(const Tensor& x, const Axes& axes, bool keep, const Fold& fold) {
  std::vector<bool> reduced(static_cast<std::size_t>(x.rank()), axes.empty());
  for (const int axis : axes) reduced[static_cast<std::size_t>(axis < 0 ? axis + x.rank() : axis)] = true;
  Shape kept = x.shape(), result;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (reduced[static_cast<std::size_t>(axis)]) kept[axis] = 1;
    if (keep || !reduced[static_cast<std::size_t>(axis)]) result.push_back(kept[axis]);
  }
  const Shape steps = contiguous_strides(x.shape()), to = contiguous_strides(kept);
  std::vector<std::vector<double>> groups(static_cast<std::size_t>(kept.numel()));
  const std::vector<double> values = x.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::int64_t place = 0;
    for (int axis = 0; axis < x.rank(); ++axis)
      if (kept[axis] != 1) place += static_cast<std::int64_t>(i) / steps[axis] % x.shape()[axis] * to[axis];
    groups[static_cast<std::size_t>(place)].push_back(values[i]);
  }
  std::vector<double> folded;
  for (const auto& group : groups) folded.push_back(fold(group));
  return Tensor::from(folded, result);
}

double add_up(const std::vector<double>& v) {
  double total = 0;
  for (const double value : v) total += value;
  return total;
}
double average(const std::vector<double>& v) { return add_up(v) / static_cast<double>(v.size()); }
double largest(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }
double log_sum(const std::vector<double>& v) {
  double total = 0;
  for (const double value : v) total += std::exp(value);
  return std::log(total);
}

const std::vector<std::pair<Shape, Axes>>& cases() {
  static const std::vector<std::pair<Shape, Axes>> list{{{}, {}},
                                                        {{1}, {0}},
                                                        {{7}, {}},
                                                        {{3, 63}, {1}},
                                                        {{63, 3}, {0}},
                                                        {{2, 5, 127}, {1}},
                                                        {{2, 5, 127}, {0, 1}},
                                                        {{2, 5, 7}, {0, 2}},
                                                        {{2, 5, 7}, {-1, 1}},
                                                        {{2, 3, 4, 5}, {1, 3}},
                                                        {{2, 3, 4, 5}, {}},
                                                        {{1, 4, 1}, {0, 2}},
                                                        {{600, 9}, {0}},
                                                        {{5, 1, 3}, {1}},
                                                        {{2, 700, 3}, {1}}};
  return list;
}

}  // namespace

TEST_CASE("reductions equal the reference over any axes and in every dtype") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& one : cases())
      for (const bool keep : {false, true}) {
        const Shape& shape = one.first;
        const Axes& axes = one.second;
        CAPTURE(to_string(shape));
        const Tensor x = cast(randn(shape), dtype);
        const double scale = static_cast<double>(shape.numel());
        const Tensor total = sum(x, axes, keep), wanted = reference(x, axes, keep, add_up);
        CHECK(total.shape() == wanted.shape());
        CHECK(total.dtype() == dtype);
        // a sum may cancel: the error is measured against the size of what was added
        CHECK(relative_error(total + scale, wanted + scale) <= tolerance(dtype));
        CHECK(relative_error(mean(x, axes, keep) + 1.0, reference(x, axes, keep, average) + 1.0) <= tolerance(dtype));
        CHECK(relative_error(max(x, axes, keep), reference(x, axes, keep, largest)) == 0);
        check_close(logsumexp(x, axes, keep), reference(x, axes, keep, log_sum));
      }
}

TEST_CASE("strided operands are reduced like packed ones") {
  const Tensor x = randn({6, 5, 33});
  for (const Tensor& view :
       {transpose(x, 0, 1), permute(x, {2, 0, 1}), slice(x, 2, 1, 30, 3), expand(x, {2, 6, 5, 33})})
    for (const Axes& axes : {Axes{0}, Axes{1}, Axes{-1}, Axes{0, -1}, Axes{}}) {
      check_close(sum(view, axes), sum(packed_copy(view), axes));
      CHECK(bit_equal(max(view, axes), max(packed_copy(view), axes)));
      check_close(logsumexp(view, axes), logsumexp(packed_copy(view), axes));
    }
}

TEST_CASE("long sums lose few digits") {
  const std::int64_t count = 3000017;
  const Tensor x = Tensor::full({count}, 0.1);
  CHECK(sum(x).item() == doctest::Approx(static_cast<double>(count) * static_cast<double>(0.1f)).epsilon(2e-6));
  const Tensor tall = Tensor::full({1000003, 3}, 0.1);
  CHECK(select(sum(tall, {0}), 0, 1).item() == doctest::Approx(1000003 * static_cast<double>(0.1f)).epsilon(2e-6));
}

TEST_CASE("reductions of nothing") {
  const Tensor x = Tensor::zeros({2, 0});
  CHECK(sum(x, {1}).to_vector<float>() == std::vector<float>{0, 0});
  CHECK(sum(x, {0}).shape() == Shape{0});
  CHECK(sum(x).item() == 0);
  CHECK(std::isnan(mean(x).item()));
  CHECK(logsumexp(x, {1}).to_vector<float>() == std::vector<float>{-INFINITY, -INFINITY});
  CHECK(max(x, {0}).shape() == Shape{0});
  CHECK(sum(Tensor::zeros({0, 3}), {0}).to_vector<float>() == std::vector<float>{0, 0, 0});
}

TEST_CASE("argmax and max take the first of equals, and NaN before all") {
  const Tensor x =
      Tensor::from<float>({1, 3, 3, 2, NAN, 5, NAN, 9, -INFINITY, -INFINITY, -INFINITY, -INFINITY}, {3, 4});
  CHECK(argmax(x, 1).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 0, 0});
  CHECK(argmax(x, 0).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 1, 1, 1});
  CHECK(argmax(x, 1, true).shape() == Shape{3, 1});
  CHECK(argmax(cast(x, DType::f16), -1).to_vector<std::int64_t>() == std::vector<std::int64_t>{1, 0, 0});
  const std::vector<float> rows = max(x, {1}).to_vector<float>();
  CHECK(rows[0] == 3);
  CHECK(std::isnan(rows[1]));
  CHECK(rows[2] == -INFINITY);
  CHECK(std::isnan(max(x).item()));
  const Tensor wide = randn({3, 1000});
  for (int row = 0; row < 3; ++row) {
    const std::vector<double> values = select(wide, 0, row).to_vector<double>();
    CHECK(select(argmax(wide, 1), 0, row).item() ==
          static_cast<double>(std::max_element(values.begin(), values.end()) - values.begin()));
    CHECK(select(argmax(transpose(wide, 0, 1), 0), 0, row).item() == select(argmax(wide, 1), 0, row).item());
  }
}

TEST_CASE("logsumexp is stable") {
  const double inf = INFINITY;
  for (const bool column : {false, true}) {
    const Tensor rows =
        Tensor::from<double>({-inf, -inf, 1000, 1000, -1000, -1000, inf, -inf, NAN, 0, -inf, 5}, {6, 2});
    const Tensor y = column ? logsumexp(contiguous(transpose(rows, 0, 1)), {0}) : logsumexp(rows, {1});
    CHECK(relative_error(
              y, Tensor::from<double>({-inf, 1000 + std::log(2.0), -1000 + std::log(2.0), inf, NAN, 5}, {6})) < 1e-15);
  }
  const Tensor x = Tensor::from<double>({-inf, -inf, 0, -inf}, {2, 2});
  set_requires_grad(x);
  backward(logsumexp(x, {1}), Tensor::ones({2}, {.dtype = DType::f64}));
  CHECK(grad(x).to_vector<double>() == std::vector<double>{0, 0, 1, 0});
}

TEST_CASE("gradients of reductions") {
  for (const auto& one : std::vector<std::pair<Shape, Axes>>{
           {{}, {}}, {{5}, {}}, {{3, 7}, {1}}, {{3, 7}, {0}}, {{2, 3, 4}, {1}}, {{2, 3, 4}, {0, 2}}, {{2, 1, 3}, {1}}})
    for (const bool keep : {false, true}) {
      const Shape& shape = one.first;
      const Axes& axes = one.second;
      CAPTURE(to_string(shape));
      const auto check = [&](Tensor (*f)(const Tensor&, const Axes&, bool)) {
        check_gradients([&](const std::vector<Tensor>& in) { return f(mul(in[0], in[0]), axes, keep); },
                        {variable(shape, 11)});
      };
      check(sum);
      check(mean);
      check(max);
      check(logsumexp);
    }
  check_gradients(
      [](const std::vector<Tensor>& in) {
        return sum_to(mul(in[0], in[0]), {3, 1});
      },
      {variable({2, 3, 4})});
  check_gradients([](const std::vector<Tensor>& in) { return logsumexp(transpose(in[0], 0, 1), {0}); },
                  {variable({3, 4})});
  check_gradients([](const std::vector<Tensor>& in) { return sum(mul(in[0], in[0]), {1}); }, {variable({3, 0})});
}

TEST_CASE("max sends its gradient to the first of the largest") {
  const Tensor x = Tensor::from<float>({2, 7, 7, 7, 1, 0}, {2, 3});
  set_requires_grad(x);
  backward(max(x));
  CHECK(grad(x).to_vector<float>() == std::vector<float>{0, 1, 0, 0, 0, 0});
  set_grad(x, Tensor());
  backward(max(x, {0}), Tensor::from<float>({1, 2, 3}, {3}));
  CHECK(grad(x).to_vector<float>() == std::vector<float>{0, 2, 3, 1, 0, 0});
}

TEST_CASE("sum_to undoes broadcasting") {
  const Tensor x = randn({4, 3, 5});
  CHECK(sum_to(x, x.shape()).shares_memory_with(x));
  check_close(sum_to(x, {5}), sum(x, {0, 1}));
  check_close(sum_to(x, {3, 1}), sum(x, {0, 2}, true).alias({3, 1}, {1, 1}, 0));
  check_close(sum_to(x, {4, 1, 1}), sum(x, {1, 2}, true));
  check_close(sum_to(x, {}), sum(x));
  CHECK(sum_to(Tensor::ones({0, 3}), {3}).to_vector<float>() == std::vector<float>{0, 0, 0});
}

TEST_CASE("reductions give the same bits for any thread count") {
  const Tensor x = randn({301, 517});
  std::vector<std::vector<Tensor>> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    results.push_back(
        {sum(x), sum(x, {0}), sum(x, {1}), mean(x), max(x, {0}), logsumexp(x, {0}), logsumexp(x, {1}), logsumexp(x)});
  }
  cpu::set_thread_count(threads);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    CHECK(bit_equal(results[0][i], results[1][i]));
    CHECK(bit_equal(results[0][i], results[2][i]));
  }
}

TEST_CASE("reductions say what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH_AS(sum(x, {2}), "sum: axis 2 is out of range for a tensor of rank 2", Error);
  CHECK_THROWS_WITH_AS(mean(x, {0, -2}), "mean: axis -2 of f32[2,3]@cpu is named twice", Error);
  CHECK_THROWS_WITH_AS(max(Tensor::zeros({2, 0}), {1}),
                       "max: f32[2,0]@cpu has nothing to choose from along the reduced axes", Error);
  CHECK_THROWS_AS(argmax(Tensor::zeros({0}), 0), Error);
  CHECK_THROWS_WITH_AS(sum_to(x, {2}), "sum_to: shapes [2,3] and [2] do not broadcast: extents 3 and 2 differ", Error);
  CHECK_THROWS_WITH_AS(sum(Tensor::arange(3)), "sum: dtype i64 is not supported; use f32 or f64", Error);
}
