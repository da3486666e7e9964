#include "train/evaluate.h"

#include "tests/support/compare.h"
#include "tests/train/error_text.h"
#include "tests/train/toy.h"

#include <doctest/doctest.h>

#include <numbers>

using namespace sq;
using test::SuccessorData;
using test::ToyModel;

TEST_CASE("the loss is the mean over the targets that count, however they are batched") {
  ToyModel model(0.5, DType::f64);
  const SuccessorData data(8);
  // All items at once, by token_losses' own mean.
  Batch batch;
  batch.resize(8, 5);
  for (std::int64_t row = 0; row < 8; ++row) data.read(row, batch.row(row));
  model.eval();
  const double expected = model.loss(batch.inputs(), batch.targets()).item();
  for (const std::int64_t size : {1, 3, 8, 100}) {
    const auto evaluation = evaluate(model, model.loss_function(), data, {.batch_size = size});
    REQUIRE(evaluation);
    CHECK(evaluation->loss == doctest::Approx(expected).epsilon(1e-12));
    CHECK(evaluation->targets == 8 * 5 - 7);  // items 1, 4, 7 leave out one target, items 2 and 5 two
  }
  const auto by_batches = evaluate(model, model.loss_function(), data, {.batch_size = 3, .mean_of_batches = true});
  CHECK(by_batches->loss != doctest::Approx(expected).epsilon(1e-6));
}

TEST_CASE("evaluating leaves mode, generator and gradients as they were and draws no dropout") {
  ToyModel model(0.5);
  const SuccessorData data(8);
  for (const bool training : {true, false}) {
    model.train(training);
    const Generator before = default_generator();
    const auto first = evaluate(model, model.loss_function(), data),
               second = evaluate(model, model.loss_function(), data);
    CHECK(first->loss == second->loss);
    CHECK(model.training() == training);
    CHECK(default_generator() == before);
    for (const auto& [name, parameter] : model.named_parameters()) CHECK_FALSE(grad(parameter).defined());
  }
  model.train();
  const auto fails = [](const Tensor&, const Tensor&) -> Tensor { throw Error("broken"); };
  CHECK_THROWS_AS(evaluate(model, fails, data), Error);
  CHECK(model.training());
}

TEST_CASE("it stops between two batches when asked to") {
  ToyModel model;
  std::atomic<bool> stop = false;
  model.before_loss = [&](int call) { stop = call == 2; };
  CHECK_FALSE(evaluate(model, model.loss_function(), SuccessorData(8), {.batch_size = 1, .stop = &stop}));
  CHECK(model.calls == 2);
}

TEST_CASE("perplexity and bits per byte") {
  CHECK(perplexity(0) == 1);
  CHECK(perplexity(std::log(50)) == doctest::Approx(50));
  // A uniform choice among 256 bytes costs 8 bits each; among 2¹⁶ pairs of bytes it is the same per byte.
  CHECK(bits_per_byte({std::log(256), 1000}, 1000) == doctest::Approx(8));
  CHECK(bits_per_byte({std::log(65536), 500}, 1000) == doctest::Approx(8));
  CHECK(test::error_text<UsageError>([] {
          bits_per_byte({1, 1}, 0);
        }) == "evaluate: bits per byte need the size of the text, 0 was given");
}

TEST_CASE("the result says how it was measured") {
  const Evaluation evaluation{2 * std::numbers::ln2, 300};
  CHECK(describe(evaluation, {.window = 64, .stride = 32, .unit = "character", .bytes = 400}) ==
        "loss 1.3863 nats per character, perplexity 4, 1.5000 bits per byte (300 characters, window 64, stride 32)");
  CHECK(describe(evaluation, {.window = 64, .stride = 64}) ==
        "loss 1.3863 nats per token, perplexity 4 (300 tokens, window 64, stride 64)");
}

TEST_CASE("data without a target that counts are refused") {
  struct Ignored final : Dataset {
    std::int64_t size() const override { return 1; }
    std::int64_t length() const override { return 2; }
    void read(std::int64_t, ItemSpans item) const override {
      item.x[0] = item.x[1] = 0;
      item.y[0] = item.y[1] = kIgnoreTarget;
    }
    std::string fingerprint() const override { return "ignored"; }
  };
  ToyModel model;
  CHECK(test::contains(test::error_text<UsageError>([&] { evaluate(model, model.loss_function(), Ignored()); }),
                       "no target that counts"));
  CHECK(test::contains(
      test::error_text<UsageError>([&] { evaluate(model, model.loss_function(), Ignored(), {.batch_size = 0}); }),
      "batch size of 0"));
}
