#include "train/optimizer.h"

#include "autograd/node.h"
#include "tests/support/compare.h"
#include "tests/train/error_text.h"

#include <doctest/doctest.h>

using namespace sq;

namespace {

/// One matrix, one vector; gradients are set by hand.
struct TwoParameters : Module {
  TwoParameters() {
    matrix = add_parameter("layer.weight", Tensor::from<double>({1, -2, 3, 0.5}, {2, 2}));
    vector = add_parameter("layer.bias", Tensor::from<double>({4, -4}, {2}));
  }
  void set_gradients(double a, double b) {
    set_grad(matrix, Tensor::full({2, 2}, a, matrix.options()));
    set_grad(vector, Tensor::full({2}, b, vector.options()));
  }
  Tensor matrix, vector;
};

}  // namespace

TEST_CASE("two updates follow the formula, with decay on matrices only") {
  TwoParameters module;
  AdamW optimizer(module, {.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.1});
  // Element 0 of each by hand: g = 0.5·scale, then 2·scale, at a loss scale of 2.
  double w = 1, b = 4, m = 0, v = 0;
  const double rate = 0.01;
  int t = 0;
  for (const double gradient : {0.5, 2.0}) {
    module.set_gradients(gradient, gradient);
    const double norm = optimizer.step(rate, 0, 2);
    CHECK(norm == doctest::Approx(0.5 * gradient * std::sqrt(6.0)));
    ++t;
    const double g = 0.5 * gradient;
    m = 0.8 * m + 0.2 * g;
    v = 0.9 * v + 0.1 * g * g;
    const double change = rate * (m / (1 - std::pow(0.8, t))) / (std::sqrt(v / (1 - std::pow(0.9, t))) + 1e-3);
    w = w * (1 - rate * 0.1) - change;
    b -= change;
    CHECK(optimizer.steps() == t);
    CHECK(module.matrix.to_vector<double>()[0] == doctest::Approx(w).epsilon(1e-13));
    CHECK(module.vector.to_vector<double>()[0] == doctest::Approx(b).epsilon(1e-13));
  }
}

TEST_CASE("gradients are clipped to the largest norm, never stretched, and left out where they are not finite") {
  const auto after = [](double gradient, double max_norm, double loss_scale, const Tensor& check = {}) {
    TwoParameters module;
    AdamW optimizer(module, {.beta1 = 0, .beta2 = 0, .epsilon = 10, .weight_decay = 0});
    module.set_gradients(gradient, gradient);
    optimizer.step(1, max_norm, loss_scale, check);
    return std::pair{module.vector.to_vector<double>()[0], optimizer.steps()};
  };
  const double norm = 2 * std::sqrt(6.0);
  // With these rates an update is g / (|g| + 10).
  const auto moved = [](double g) { return doctest::Approx(4 - g / (g + 10)).epsilon(1e-12); };
  CHECK(after(2, 0, 1).first == moved(2));
  CHECK(after(2, 100, 1).first == moved(2));
  CHECK(after(2, 1, 1).first == moved(2 / (norm + 1e-6)));
  CHECK(after(2, 1, 4).first == moved(2 / 4.0 / (norm / 4 + 1e-6)));
  CHECK(after(2, 100, 4).first == moved(0.5));
  for (const double bad : {NAN, INFINITY}) {
    CHECK(after(bad, 1, 1) == std::pair<double, std::int64_t>{4, 0});
    CHECK(after(1, 1, 1, Tensor::scalar(bad)) == std::pair<double, std::int64_t>{4, 0});
  }
  CHECK(after(2, 0, 1, Tensor::scalar(1e30)).second == 1);
}

TEST_CASE("a parameter without a gradient is treated as one whose gradient is zero") {
  TwoParameters given, missing;
  AdamW first(given, {}), second(missing, {});
  for (const double gradient : {1.0, 0.0}) {
    given.set_gradients(0.3, gradient);
    missing.set_gradients(0.3, gradient);
    if (gradient == 0) set_grad(missing.vector, {});
    first.step(0.1);
    second.step(0.1);
  }
  CHECK(bit_equal(given.vector, missing.vector));
  CHECK(bit_equal(given.matrix, missing.matrix));
}

TEST_CASE("which parameters decay follows from rank and name") {
  const Tensor matrix = Tensor::zeros({2, 2}), vector = Tensor::zeros({2});
  struct Case {
    std::string name;
    Tensor parameter;
    bool linear, matrices;
  };
  for (const auto& c : std::vector<Case>{{"layers.0.attn.q_proj.weight", matrix, true, true},
                                         {"token_emb.weight", matrix, false, true},
                                         {"position_embedding.weight", matrix, false, true},
                                         {"lm_head.weight", matrix, true, true},
                                         {"ln_f.weight", vector, false, false},
                                         {"layers.1.attn.q_proj.bias", vector, false, false},
                                         {"global_memory", matrix, false, false},
                                         {"mixer.global_memory", matrix, false, false}}) {
    CAPTURE(c.name);
    CHECK(decays(DecayRule::linear, c.name, c.parameter) == c.linear);
    CHECK(decays(DecayRule::matrices, c.name, c.parameter) == c.matrices);
    CHECK(decays(DecayRule::all, c.name, c.parameter));
  }
}

TEST_CASE("state that was saved and loaded goes on with the same bits") {
  TwoParameters one, two;
  AdamW first(one, {}), second(two, {});
  one.set_gradients(0.3, -1);
  first.step(0.1);
  NamedTensors saved;
  for (const auto& [name, tensor] : first.state()) saved.emplace_back(name, packed_copy(tensor));
  two.load_state_dict(one.state_dict(), "model");
  second.load_state(saved, "optimizer");
  CHECK(second.steps() == 1);
  for (TwoParameters* module : {&one, &two}) module->set_gradients(-0.7, 2);
  first.step(0.1);
  second.step(0.1);
  CHECK(bit_equal(one.matrix, two.matrix));
  CHECK(bit_equal(one.vector, two.vector));
}

TEST_CASE("state that does not fit is refused with all differences and changes nothing" * doctest::test_suite("cpu")) {
  TwoParameters module;
  AdamW optimizer(module, {});
  NamedTensors state;
  for (const auto& [name, tensor] : optimizer.state())
    state.emplace_back(name, Tensor::ones(tensor.shape(), tensor.options()));
  state.erase(state.begin());
  state[0].second = Tensor::ones({3}, {.dtype = DType::f64});
  state.emplace_back("extra", Tensor::ones({1}));
  const std::string text = test::error_text<UsageError>([&] { optimizer.load_state(state, "file"); });
  CHECK(text ==
        "file: the optimizer's state does not fit: 'exp_avg.layer.weight' is missing; 'exp_avg.layer.bias' is "
        "f64[3]@cpu, f64[2]@cpu is needed; 'extra' is unexpected");
  CHECK(optimizer.steps() == 0);
  CHECK(optimizer.state()[2].second.to_vector<double>() == std::vector<double>(4, 0.0));
}

TEST_CASE("settings out of range name the field and the value") {
  const TwoParameters module;
  const auto refused = [&](const AdamWSettings& settings, const std::string& text) {
    CHECK(test::error_text<UsageError>([&] { AdamW(module, settings); }) == text);
  };
  refused({.beta1 = 1}, "beta1: 1 is not in [0, 1)");
  refused({.beta2 = std::nan("")}, "beta2: nan is not in [0, 1)");
  refused({.epsilon = 0}, "epsilon: 0 is not a positive number");
  refused({.weight_decay = -0.1}, "weight_decay: -0.1 is not a number >= 0");
}
