#include "ops/adamw.h"

#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

AdamWSlot make_slot(const Tensor& weight, DType average = DType::f32) {
  return {.weight = packed_copy(weight),
          .gradient = {},
          .exp_avg = Tensor::zeros(weight.shape(), {.dtype = average}),
          .exp_avg_sq = Tensor::zeros(weight.shape(), {.dtype = average})};
}

/// The update rule, one element at a time, in double.
struct Reference {
  std::vector<double> w, m, v;

  explicit Reference(const Tensor& weight) : w(weight.to_vector<double>()), m(w.size()), v(w.size()) {}

  void step(const Tensor& gradient, const AdamWOptions& o) {
    const std::vector<double> g = gradient.to_vector<double>();
    const auto t = static_cast<double>(o.step);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double d = g[i] * o.gradient_scale;
      w[i] -= o.learning_rate * o.weight_decay * w[i];
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * d;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * d * d;
      w[i] -= o.learning_rate * (m[i] / (1 - std::pow(o.beta1, t))) /
              (std::sqrt(v[i] / (1 - std::pow(o.beta2, t))) + o.epsilon);
    }
  }
};

}  // namespace

TEST_CASE("the first AdamW step moves each weight by the learning rate against the sign of its gradient") {
  AdamWSlot slot = make_slot(Tensor::from<double>({1, 1, 1}, {3}), DType::f64);
  slot.gradient = Tensor::from<double>({5, -0.01, 0}, {3});
  adamw_step({&slot, 1}, {.learning_rate = 0.1, .epsilon = 1e-12, .weight_decay = 0});
  CHECK(slot.weight.to_vector<double>()[0] == doctest::Approx(0.9).epsilon(1e-9));
  CHECK(slot.weight.to_vector<double>()[1] == doctest::Approx(1.1).epsilon(1e-9));
  CHECK(slot.weight.to_vector<double>()[2] == 1);
  slot.gradient = Tensor::zeros({3}, {.dtype = DType::f64});
  AdamWSlot decayed = make_slot(Tensor::from<double>({2}, {1}), DType::f64);
  decayed.gradient = Tensor::zeros({1}, {.dtype = DType::f64});
  adamw_step({&decayed, 1}, {.learning_rate = 0.1, .weight_decay = 0.5});
  CHECK(decayed.weight.item() == doctest::Approx(1.9).epsilon(1e-15));
}

TEST_CASE("adamw_step follows the update rule for several tensors and steps") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::vector<AdamWSlot> slots;
    std::vector<Reference> references;
    for (const Shape& shape : {Shape{3}, Shape{0}, Shape{}, Shape{37, 41}, Shape{40001}}) {
      slots.push_back(make_slot(randn(shape, {.dtype = dtype}), dtype));
      references.emplace_back(slots.back().weight);
    }
    slots[1].weight_decay = 0.0;
    slots[3].weight_decay = 0.3;
    AdamWOptions options{.learning_rate = 0.02, .beta2 = 0.95, .weight_decay = 0.1, .gradient_scale = 0.5};
    for (options.step = 1; options.step <= 4; ++options.step) {
      for (std::size_t i = 0; i < slots.size(); ++i) {
        slots[i].gradient = randn(slots[i].weight.shape(), {.dtype = dtype});
        AdamWOptions own = options;
        own.weight_decay = slots[i].weight_decay.value_or(options.weight_decay);
        references[i].step(slots[i].gradient, own);
      }
      adamw_step(slots, options);
    }
    for (std::size_t i = 0; i < slots.size(); ++i) {
      const Shape& shape = slots[i].weight.shape();
      check_close(slots[i].weight, cast(Tensor::from(references[i].w, shape), dtype));
      check_close(slots[i].exp_avg, cast(Tensor::from(references[i].m, shape), dtype));
      check_close(slots[i].exp_avg_sq, cast(Tensor::from(references[i].v, shape), dtype));
    }
  }
}

TEST_CASE("adamw_step equals its composition of small operations") {
  AdamWSlot slot = make_slot(randn({3, 41}, {.dtype = DType::f64}), DType::f64);
  AdamWOptions options{.learning_rate = 0.03, .weight_decay = 0.2, .gradient_scale = 0.7};
  for (options.step = 1; options.step <= 3; ++options.step) {
    slot.gradient = randn({3, 41}, {.dtype = DType::f64});
    const std::vector<Tensor> expected = adamw_composed(slot, options);
    adamw_step({&slot, 1}, options);
    check_close(slot.weight, expected[0]);
    check_close(slot.exp_avg, expected[1]);
    check_close(slot.exp_avg_sq, expected[2]);
  }
}

TEST_CASE("adamw_step trains 16-bit weights with averages in f32") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    AdamWSlot slot = make_slot(cast(randn({50}), dtype));
    Reference reference(slot.weight);
    slot.gradient = cast(randn({50}), dtype);
    const AdamWOptions options{.learning_rate = 0.1};
    reference.step(slot.gradient, options);
    adamw_step({&slot, 1}, options);
    CHECK(slot.weight.dtype() == dtype);
    check_close(slot.weight, cast(Tensor::from(reference.w, {50}), dtype));
  }
}

TEST_CASE("adamw_step leaves slots without a gradient alone and marks the others as changed") {
  std::vector<AdamWSlot> slots = {make_slot(Tensor::ones({2})), make_slot(Tensor::ones({2}))};
  const Tensor memory = randn({2, 3});
  slots[1].gradient = memory.alias({2}, {3}, 0);  // strided
  const std::uint64_t version = slots[1].weight.version();
  adamw_step(slots, {.weight_decay = 0.5});
  CHECK(slots[0].weight.to_vector<float>() == std::vector<float>{1, 1});
  CHECK(slots[1].weight.version() > version);
  const std::vector<float> values = memory.to_vector<float>();
  check_close(slots[1].exp_avg, Tensor::from<float>({0.1f * values[0], 0.1f * values[3]}, {2}));
}

TEST_CASE("adamw_step updates tensors that begin anywhere, and more of them than one launch takes") {
  const Tensor weights = randn({9000}), gradients = randn({9000});
  std::vector<AdamWSlot> apart, together = {make_slot(weights)};
  together[0].gradient = gradients;
  const Tensor memory = packed_copy(weights);
  for (std::int64_t begin = 0, count = 1; begin < 9000;
       begin += count, count = std::min(2 * count % 97, 9000 - begin)) {
    apart.push_back(make_slot(Tensor::zeros({count})));
    apart.back().weight = memory.alias({count}, {1}, begin);
    apart.back().gradient = gradients.alias({count}, {1}, begin);
  }
  CHECK(apart.size() > 128);
  for (std::int64_t step = 1; step <= 2; ++step) {
    adamw_step(apart, {.step = step});
    adamw_step(together, {.step = step});
  }
  check_close(memory, together[0].weight);
}

TEST_CASE("adamw_step gives the same bits for any thread count") {
  const Tensor weight = randn({70001}), gradient = randn({70001});
  check_same_bits_for_any_thread_count([&] {
    std::vector<AdamWSlot> slots = {make_slot(weight), make_slot(Tensor::ones({5}))};
    slots[0].gradient = gradient;
    adamw_step(slots, {});
    return std::vector<Tensor>{slots[0].weight, slots[0].exp_avg, slots[0].exp_avg_sq};
  });
}

TEST_CASE("adamw_step says what is wrong, and then has changed nothing" * doctest::test_suite("cpu")) {
  std::vector<AdamWSlot> slots = {make_slot(Tensor::ones({2})), make_slot(Tensor::ones({2}))};
  slots[0].gradient = Tensor::ones({2});
  slots[1].gradient = Tensor::ones({3});
  CHECK_THROWS_WITH_AS(adamw_step(slots, {}), "adamw: the gradient f32[3]@cpu does not fit the weight f32[2]@cpu",
                       Error);
  CHECK(slots[0].weight.to_vector<float>() == std::vector<float>{1, 1});
  slots.pop_back();
  CHECK_THROWS_WITH_AS(adamw_step(slots, {.step = 0}), "adamw: step 0 is not at least 1", Error);
  CHECK_THROWS_WITH_AS(adamw_step(slots, {.learning_rate = NAN}), "adamw: learning_rate nan is not a number >= 0",
                       Error);
  CHECK_THROWS_WITH_AS(adamw_step(slots, {.beta2 = 1}), "adamw: beta2 1 is not in [0, 1)", Error);
  slots[0].exp_avg = Tensor::zeros({2}, {.dtype = DType::f64});
  CHECK_THROWS_WITH_AS(adamw_step(slots, {}),
                       "adamw: the running average f64[2]@cpu does not fit the weight f32[2]@cpu", Error);
  slots[0] = make_slot(Tensor::ones({2, 2}));
  slots[0].gradient = Tensor::ones({2, 2});
  slots[0].weight = slots[0].weight.alias({2, 2}, {1, 2}, 0);
  CHECK_THROWS_WITH_AS(adamw_step(slots, {}), "adamw: f32[2,2]@cpu is not row-major", Error);
}
