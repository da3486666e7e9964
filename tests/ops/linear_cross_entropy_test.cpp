#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/cross_entropy.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor random_targets(std::int64_t count, std::int64_t classes) {
  std::vector<std::int64_t> targets;
  for (std::int64_t i = 0; i < count; ++i)
    targets.push_back(i % 4 == 2 ? -100
                                 : static_cast<std::int64_t>(random_below(5, 0, static_cast<std::uint64_t>(i),
                                                                          static_cast<std::uint64_t>(classes))));
  return Tensor::from(targets, {count});
}

/// x Wᵀ in f64.
Tensor project(const Tensor& x, const Tensor& weight) {
  const std::vector<double> a = x.to_vector<double>(), w = weight.to_vector<double>();
  const auto width = static_cast<std::size_t>(x.size(-1));
  std::vector<double> z;
  for (std::size_t i = 0; i < a.size(); i += width)
    for (std::size_t j = 0; j < w.size(); j += width) {
      z.push_back(0);
      for (std::size_t c = 0; c < width; ++c) z.back() += a[i + c] * w[j + c];
    }
  return Tensor::from(z, {x.numel() / x.size(-1), weight.size(0)});
}

struct Result {
  Tensor loss, dx, dweight;
};

Result differentiate(const Tensor& x, const Tensor& weight, const Tensor& targets, const CrossEntropyOptions& options,
                     double seed = 1) {
  const Tensor a = packed_copy(x), w = packed_copy(weight);
  set_requires_grad(a);
  set_requires_grad(w);
  const Tensor loss = linear_cross_entropy(a, w, targets, options);
  backward(loss, Tensor::scalar(seed, loss.options()));
  return {loss, grad(a), grad(w)};
}

}  // namespace

TEST_CASE("linear_cross_entropy equals cross_entropy of the projection in every dtype") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const auto& size : {std::array<std::int64_t, 3>{1, 1, 1}, {3, 7, 5}, {33, 65, 17}, {20, 300, 8}})
      for (const double smoothing : {0.0, 0.1}) {
        const std::int64_t rows = size[0], columns = size[1], width = size[2];
        CAPTURE(rows);
        const Tensor x = cast(randn({rows, width}), dtype), weight = cast(randn({columns, width}), dtype);
        const Tensor targets = random_targets(rows, columns);
        const CrossEntropyOptions options{.label_smoothing = smoothing};
        const Tensor expected = cross_entropy(project(x, weight), targets, options);
        check_close(linear_cross_entropy(x, weight, targets, options),
                    cast(expected, is_half(dtype) ? DType::f32 : dtype));
      }
}

TEST_CASE("linear_cross_entropy has the right gradients") {
  const Tensor targets = random_targets(6, 9);
  for (const double smoothing : {0.0, 0.2})
    check_gradients(
        [&](const std::vector<Tensor>& in) {
          return linear_cross_entropy(in[0], in[1], targets, {.label_smoothing = smoothing});
        },
        {variable({6, 5}, 1), variable({9, 5}, 2)});
  const Tensor x = variable({6, 5}, 1), weight = randn({9, 5}, {.dtype = DType::f64});
  check_gradients([&](const std::vector<Tensor>& in) { return linear_cross_entropy(in[0], weight, targets); }, {x});
  check_gradients([&](const std::vector<Tensor>& in) { return linear_cross_entropy(detach(x), in[0], targets); },
                  {variable({9, 5}, 2)});
}

TEST_CASE("linear_cross_entropy equals its composition of small operations") {
  const Tensor targets = random_targets(45, 67);
  for (const double smoothing : {0.0, 0.1}) {
    const CrossEntropyOptions options{.label_smoothing = smoothing};
    check_same_function(
        [&](const std::vector<Tensor>& in) { return linear_cross_entropy(in[0], in[1], targets, options); },
        [&](const std::vector<Tensor>& in) { return linear_cross_entropy_composed(in[0], in[1], targets, options); },
        {variable({45, 19}, 1), variable({67, 19}, 2)});
  }
}

TEST_CASE("linear_cross_entropy of 16-bit operands has the gradients of the same numbers in f64") {
  const Poison poison;
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const std::int64_t columns : {61, 2603}) {
      CAPTURE(columns);
      const Tensor x = cast(randn({21, 8}), dtype), weight = cast(randn({columns, 8}), dtype);
      const Tensor targets = random_targets(21, columns);
      const CrossEntropyOptions options{.label_smoothing = 0.1};
      const Result got = differentiate(x, weight, targets, options, 4);
      const Result want = differentiate(cast(x, DType::f64), cast(weight, DType::f64), targets, options, 4);
      CHECK(got.dx.dtype() == dtype);
      check_close(got.dx, want.dx);
      check_close(got.dweight, want.dweight);
    }
}

TEST_CASE("linear_cross_entropy over several blocks of positions equals one block") {
  // 17,000 classes: blocks of at most 256 positions. The gradients of 300 are the weighted sums over parts of 100.
  const std::int64_t columns = 17000, width = 3;
  const TensorOptions f64{.dtype = DType::f64};
  const Tensor x = randn({3, 100, width}, f64), weight = randn({columns, width}, f64);
  const Tensor targets = random_targets(300, columns);
  const auto part = [&](std::int64_t p) {
    const Tensor ids = targets.alias({100}, {1}, 100 * p);
    const std::vector<std::int64_t> values = ids.to_vector<std::int64_t>();
    const auto counted = static_cast<double>(100 - std::count(values.begin(), values.end(), -100));
    return std::pair(differentiate(x.alias({100, width}, {width, 1}, 100 * p * width), weight, ids, {}), counted);
  };
  const Result whole = differentiate(x, weight, targets.alias({3, 100}, {100, 1}, 0), {});
  double loss = 0, total = 0;
  std::vector<double> dx, dweight(static_cast<std::size_t>(columns * width));
  for (const std::int64_t p : {0, 1, 2}) {
    const auto [result, counted] = part(p);
    loss += result.loss.item() * counted;
    total += counted;
    for (const double v : result.dx.to_vector<double>()) dx.push_back(v * counted);
    const std::vector<double> dw = result.dweight.to_vector<double>();
    for (std::size_t i = 0; i < dw.size(); ++i) dweight[i] += dw[i] * counted;
  }
  for (double& v : dx) v /= total;
  for (double& v : dweight) v /= total;
  CHECK(whole.loss.item() == doctest::Approx(loss / total).epsilon(1e-13));
  check_close(whole.dx, Tensor::from(dx, {3, 100, width}));
  check_close(whole.dweight, Tensor::from(dweight, {columns, width}));
}

TEST_CASE("linear_cross_entropy scales its gradients by dy") {
  const Tensor x = randn({5, 4}), weight = randn({8, 4}), targets = random_targets(5, 8);
  const Result one = differentiate(x, weight, targets, {}), quarter = differentiate(x, weight, targets, {}, 0.25);
  const auto quarters = [](const Tensor& x) {
    std::vector<float> values = x.to_vector<float>();
    for (float& v : values) v *= 0.25f;
    return values;
  };
  CHECK(quarter.dx.to_vector<float>() == quarters(one.dx));
  CHECK(quarter.dweight.to_vector<float>() == quarters(one.dweight));
}

TEST_CASE("linear_cross_entropy never holds the logits of all positions") {
  const std::int64_t rows = 2048, columns = 8192, width = 2;  // all logits: 64 MiB
  const Tensor x = randn({rows, width}), weight = randn({columns, width}), targets = random_targets(rows, columns);
  release_cached_memory(x.device());
  reset_peak_memory(x.device());
  const std::size_t before = memory_statistics(x.device()).peak;
  differentiate(x, weight, targets, {});
  CHECK(memory_statistics(x.device()).peak - before < std::size_t{20} << 20);
}

TEST_CASE("linear_cross_entropy gives the same bits for any thread count") {
  const Tensor x = randn({100, 24}), weight = randn({301, 24}), targets = random_targets(100, 301);
  check_same_bits_for_any_thread_count([&] {
    const Result r = differentiate(x, weight, targets, {});
    return std::vector<Tensor>{r.loss, r.dx, r.dweight};
  });
}

TEST_CASE("linear_cross_entropy says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor x = Tensor::zeros({2, 3}), weight = Tensor::zeros({5, 3}),
               ids = Tensor::zeros({2}, {.dtype = DType::i64});
  CHECK_THROWS_WITH_AS(linear_cross_entropy(x, Tensor::zeros({5, 4}), ids),
                       "linear_cross_entropy: weight f32[5,4]@cpu must be [V,C] for x f32[2,3]@cpu with V at least 1",
                       Error);
  CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, Tensor::zeros({3}, {.dtype = DType::i64})),
                       "linear_cross_entropy: targets i64[3]@cpu do not fit x f32[2,3]@cpu", Error);
  CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, Tensor::from<std::int64_t>({0, 5}, {2})),
                       "linear_cross_entropy: index 5 at place 1 is outside 0 … 4", Error);
  CHECK_THROWS_WITH_AS(
      linear_cross_entropy(x, weight, Tensor::from<std::int64_t>({-100, -100}, {2})),
      "linear_cross_entropy: all 2 targets are -100, which is ignored; the mean over none is undefined", Error);
  CHECK_THROWS_WITH_AS(linear_cross_entropy(x, weight, ids, {.label_smoothing = -0.1}),
                       "linear_cross_entropy: label smoothing -0.1 is outside [0, 1)", Error);
}
