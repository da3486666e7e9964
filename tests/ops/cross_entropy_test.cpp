#include "ops/cross_entropy.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor random_targets(const Shape& shape, std::int64_t classes, std::int64_t ignore_every) {
  std::vector<std::int64_t> targets(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < targets.size(); ++i)
    targets[i] = i % static_cast<std::size_t>(ignore_every) == 1
                     ? -100
                     : static_cast<std::int64_t>(random_below(5, 0, i, static_cast<std::uint64_t>(classes)));
  return Tensor::from(targets, shape);
}

/// The definition with a smoothed target distribution q: -Σ_v q_v ln p_v.
std::vector<double> reference(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  const std::vector<double> z = logits.to_vector<double>();
  const std::vector<std::int64_t> t = targets.to_vector<std::int64_t>();
  const auto classes = static_cast<std::size_t>(logits.size(-1));
  std::vector<double> losses;
  for (std::size_t row = 0; row < t.size(); ++row) {
    const double* first = &z[row * classes];
    const double shift = *std::max_element(first, first + classes);
    double total = 0, loss = 0;
    for (std::size_t v = 0; v < classes; ++v) total += std::exp(first[v] - shift);
    for (std::size_t v = 0; v < classes; ++v) {
      const double q = options.label_smoothing / static_cast<double>(classes) +
                       (static_cast<std::int64_t>(v) == t[row] ? 1 - options.label_smoothing : 0);
      loss -= q * (first[v] - shift - std::log(total));
    }
    losses.push_back(t[row] == options.ignore_index ? 0 : loss);
  }
  return losses;
}

double reference_mean(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  double total = 0, counted = 0;
  for (const double loss : reference(logits, targets, options)) total += loss;
  for (const std::int64_t t : targets.to_vector<std::int64_t>()) counted += t != options.ignore_index;
  return total / counted;
}

}  // namespace

TEST_CASE("cross_entropy of values worked out by hand") {
  // p = (1, 2, 5) / 8 in both rows; targets 2 and 0 cost ln 8/5 and ln 8
  const Tensor z = Tensor::from<double>({0, std::log(2), std::log(5), 7, 7 + std::log(2), 7 + std::log(5)}, {2, 3});
  const Tensor both = Tensor::from<std::int64_t>({2, 0}, {2}), first = Tensor::from<std::int32_t>({2, -100}, {2});
  CHECK(cross_entropy(z, both).item() == doctest::Approx((std::log(1.6) + std::log(8)) / 2));
  CHECK(cross_entropy(z, first).item() == doctest::Approx(std::log(1.6)));
  const std::vector<double> each = token_losses(z, first).to_vector<double>();
  CHECK(each[0] == doctest::Approx(std::log(1.6)));
  CHECK(each[1] == 0);
  // smoothing 0.3 over three classes: 0.8 ln 8/5 + 0.1 ln 8/2 + 0.1 ln 8
  CHECK(cross_entropy(z, first, {.label_smoothing = 0.3}).item() ==
        doctest::Approx(0.8 * std::log(1.6) + 0.1 * std::log(4) + 0.1 * std::log(8)));
}

TEST_CASE("cross_entropy equals the reference in every dtype and on odd shapes") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{1}, Shape{3, 1}, Shape{3, 63}, Shape{2, 5, 127}, Shape{40, 33}, Shape{3, 9001}})
      for (const double smoothing : {0.0, 0.1}) {
        CAPTURE(to_string(shape));
        const Tensor z = cast(randn(shape), dtype);
        Shape leading = shape;
        leading.erase(shape.rank() - 1);
        const Tensor targets = random_targets(leading, shape[shape.rank() - 1], 3);
        const CrossEntropyOptions options{.label_smoothing = smoothing};
        check_close(cross_entropy(z, targets, options), Tensor::scalar(reference_mean(z, targets, options),
                                                                       {.dtype = is_half(dtype) ? DType::f32 : dtype}));
        const Tensor each = token_losses(z, targets, options);
        CHECK(each.shape() == leading);
        check_close(cast(each, dtype), cast(Tensor::from(reference(z, targets, options), leading), dtype));
      }
  CHECK(token_losses(Tensor::zeros({0, 3}), Tensor::zeros({0}, {.dtype = DType::i64})).shape() == Shape{0});
}

TEST_CASE("cross_entropy keeps its digits for large logits") {
  const Tensor z = Tensor::from<float>({3000.5f, 3000.25f, -3000}, {1, 3}),
               target = Tensor::from<std::int64_t>({0}, {1});
  CHECK(cross_entropy(z, target).item() == doctest::Approx(std::log1p(std::exp(-0.25))).epsilon(1e-6));
  const Tensor sure = Tensor::from<float>({500, 0, -INFINITY}, {1, 3});
  CHECK(cross_entropy(sure, target).item() == 0);
  CHECK(cross_entropy(sure, Tensor::from<std::int64_t>({2}, {1})).item() == INFINITY);
}

TEST_CASE("cross_entropy has the right gradient") {
  const Tensor targets = random_targets({2, 3}, 7, 4);
  for (const double smoothing : {0.0, 0.2})
    check_gradients(
        [&](const std::vector<Tensor>& in) { return cross_entropy(in[0], targets, {.label_smoothing = smoothing}); },
        {variable({2, 3, 7})});
  const Tensor wide_targets = random_targets({3}, 67, 5);
  check_gradients([&](const std::vector<Tensor>& in) { return cross_entropy(in[0], wide_targets); },
                  {variable({3, 67})});
}

TEST_CASE("cross_entropy of 16-bit logits has the gradient of the same numbers in f64") {
  const auto gradient = [](const Tensor& logits, const Tensor& targets) {
    const Tensor z = packed_copy(logits);
    set_requires_grad(z);
    backward(cross_entropy(z, targets, {.label_smoothing = 0.1}));
    return grad(z);
  };
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const std::int64_t columns : {41, 64, 2603}) {
      const Tensor z = cast(randn({5, columns}), dtype), targets = random_targets({5}, columns, 4);
      check_close(gradient(z, targets), gradient(cast(z, DType::f64), targets));
    }
}

TEST_CASE("on a GPU a target that is no class, or ignoring all, makes the loss NaN") {
  if (default_device().is_cpu()) return;
  const Tensor z = randn({2, 3});
  set_requires_grad(z);
  const Tensor targets = Tensor::from<std::int64_t>({1, 3}, {2});
  const std::vector<float> each = token_losses(z, targets).to_vector<float>();
  CHECK(std::isfinite(each[0]));
  CHECK(std::isnan(each[1]));
  backward(cross_entropy(z, targets));
  CHECK_FALSE(all_finite(grad(z)));
  CHECK(std::isnan(cross_entropy(z, Tensor::from<std::int64_t>({-100, -100}, {2})).item()));
}

TEST_CASE("cross_entropy equals its composition of small operations") {
  const Tensor targets = random_targets({3, 7}, 41, 4);
  for (const double smoothing : {0.0, 0.1}) {
    const CrossEntropyOptions options{.label_smoothing = smoothing};
    check_same_function([&](const std::vector<Tensor>& in) { return cross_entropy(in[0], targets, options); },
                        [&](const std::vector<Tensor>& in) { return cross_entropy_composed(in[0], targets, options); },
                        {variable({3, 7, 41})});
  }
}

TEST_CASE("ignored positions have no gradient, whatever stands there") {
  Tensor z = randn({2, 4});
  Tensor second_row = z.alias({4}, {1}, 4);
  fill_(second_row, NAN);
  set_requires_grad(z);
  const Tensor loss = cross_entropy(z, Tensor::from<std::int64_t>({1, 9}, {2}), {.ignore_index = 9});
  backward(loss);
  CHECK(std::isfinite(loss.item()));
  const std::vector<float> dz = grad(z).to_vector<float>();
  double total = 0;
  for (std::size_t v = 0; v < 4; ++v) total += static_cast<double>(dz[v]);
  CHECK(total == doctest::Approx(0).epsilon(1e-6));
  for (std::size_t v = 4; v < 8; ++v) CHECK(dz[v] == 0);
}

TEST_CASE("a NaN in a counted row reaches the loss and the gradient") {
  const Tensor z = Tensor::from<float>({0, NAN, 1}, {1, 3});
  set_requires_grad(z);
  const Tensor loss = cross_entropy(z, Tensor::from<std::int64_t>({0}, {1}));
  CHECK(std::isnan(loss.item()));
  backward(loss);
  CHECK_FALSE(all_finite(grad(z)));
}

TEST_CASE("cross_entropy reads strided logits and targets") {
  const Tensor memory = randn({5, 6});
  const Tensor z = memory.alias({6, 5}, {1, 6}, 0);
  const Tensor targets = Tensor::from<std::int64_t>({0, 9, 1, 9, 2, 9, 3, 9, 4, 9, 0, 9}, {12}).alias({6}, {2}, 0);
  check_close(cross_entropy(z, targets), cross_entropy(packed_copy(z), packed_copy(targets)));
}

TEST_CASE("cross_entropy gives the same bits for any thread count") {
  const Tensor z = randn({300, 111}), targets = random_targets({300}, 111, 7);
  check_same_bits_for_any_thread_count([&] {
    const Tensor leaf = packed_copy(z);
    set_requires_grad(leaf);
    const Tensor loss = cross_entropy(leaf, targets, {.label_smoothing = 0.1});
    backward(loss);
    return std::vector<Tensor>{loss, grad(leaf)};
  });
}

TEST_CASE("cross_entropy says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor z = Tensor::zeros({2, 3}), targets = Tensor::zeros({2}, {.dtype = DType::i64});
  CHECK_THROWS_WITH_AS(cross_entropy(z, Tensor::from<std::int64_t>({1, 3}, {2})),
                       "cross_entropy: index 3 at place 1 is outside 0 … 2", Error);
  CHECK_THROWS_WITH_AS(cross_entropy(z, Tensor::from<std::int64_t>({-100, -100}, {2})),
                       "cross_entropy: all 2 targets are -100, which is ignored; the mean over none is undefined",
                       Error);
  CHECK_THROWS_WITH_AS(cross_entropy(z, Tensor::zeros({3}, {.dtype = DType::i64})),
                       "cross_entropy: targets i64[3]@cpu do not fit logits f32[2,3]@cpu", Error);
  CHECK_THROWS_WITH_AS(cross_entropy(z, Tensor::zeros({2})),
                       "cross_entropy: indices must be i64 or i32, not f32[2]@cpu", Error);
  CHECK_THROWS_WITH_AS(cross_entropy(z, targets, {.label_smoothing = 1}),
                       "cross_entropy: label smoothing 1 is outside [0, 1)", Error);
  CHECK_THROWS_WITH_AS(cross_entropy(Tensor::zeros({2, 0}), targets),
                       "cross_entropy: logits f32[2,0]@cpu have no classes", Error);
}
