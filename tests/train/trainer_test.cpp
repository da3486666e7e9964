#include "train/trainer.h"

#include "tensor/file.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "tests/train/toy.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace sq;
using test::parameters_after;
using test::toy_batches;
using test::ToyModel;

namespace {

TrainerOptions steps(std::int64_t count, std::int64_t accumulation = 1) {
  return {.steps = count,
          .accumulation = accumulation,
          .optimizer = {.weight_decay = 0.1},
          .schedule = {.learning_rate = 0.05}};
}

void check_close(const NamedTensors& a, const NamedTensors& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(a[i].first);
    CHECK(test::relative_error(a[i].second, b[i].second) <= tolerance);
  }
}

/// A NaN out of finite values.
Tensor explode(const Tensor& x) {
  return record("explode", {x}, Tensor::full(x.shape(), std::numeric_limits<double>::quiet_NaN(), x.options()), {},
                [](const Saved&, const Tensor& dy) -> Gradients { return {dy}; });
}

/// Passes its input on; its gradient is infinite.
Tensor infinite_gradient(const Tensor& x) {
  return record("infinite_gradient", {x}, x.alias(), {}, [](const Saved&, const Tensor& dy) -> Gradients {
    return {Tensor::full(dy.shape(), std::numeric_limits<double>::infinity(), dy.options())};
  });
}

}  // namespace

TEST_CASE("the toy model learns which id follows which") {
  std::vector<StepReport> reports;
  parameters_after(steps(60), toy_batches(21, 7, true), &reports, DType::f32);
  REQUIRE(reports.size() == 60);
  CHECK(reports.front().loss > 1.5);
  CHECK(reports.back().loss < 0.1);
}

TEST_CASE("a step over several batches equals one over all of their rows, targets weighing alike") {
  // 5 rows in batches of 2, 2 and 1; the rows count 5, 4, 3, 5 and 4 targets.
  std::vector<StepReport> parts, whole;
  const NamedTensors a = parameters_after(steps(4, 3), toy_batches(5, 2), &parts);
  const NamedTensors b = parameters_after(steps(4), toy_batches(5, 5), &whole);
  check_close(a, b, 1e-12);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(parts[i].loss == doctest::Approx(whole[i].loss).epsilon(1e-12));
    CHECK(parts[i].grad_norm == doctest::Approx(whole[i].grad_norm).epsilon(1e-12));
    CHECK(parts[i].tokens == 25 * static_cast<std::int64_t>(i + 1));
  }
}

TEST_CASE("the last group of an epoch is divided by its own count") {
  // Batches of one row: groups of 2, 2 and 1 in each epoch. The third step sees row 4 alone.
  std::vector<StepReport> ragged;
  parameters_after(steps(6, 2), toy_batches(5, 1), &ragged);
  CHECK(ragged[2].epoch == 1);
  CHECK(ragged[5].epoch == 2);
  CHECK(ragged[1].epoch == 0);
  TrainerOptions faithful = steps(6, 2);
  faithful.faithful = true;
  std::vector<StepReport> original;
  parameters_after(faithful, toy_batches(5, 1), &original);
  // The original still divides by 2: from equal parameters that gives half the gradient. Step 1 has full groups.
  CHECK(original[0].epoch == 0);
  faithful.steps = 1;
  const auto one_row = [] {
    return std::make_unique<EpochBatches>(std::make_shared<test::SuccessorData>(1),
                                          EpochOptions{.batch_size = 1, .shuffle = false, .epochs = {}});
  };
  std::vector<StepReport> half, full;
  parameters_after(faithful, one_row(), &half);
  parameters_after(steps(1, 2), one_row(), &full);
  CHECK(half[0].grad_norm == doctest::Approx(full[0].grad_norm / 2).epsilon(1e-13));
  CHECK(half[0].loss == full[0].loss);
}

TEST_CASE("faithful losses are means over batches, ours over targets") {
  // Rows of 5 and 3 counted targets.
  const auto first_loss = [](bool faithful) {
    TrainerOptions options{.epochs = 1, .accumulation = 2, .schedule = {.learning_rate = 0}, .faithful = faithful};
    std::vector<StepReport> reports;
    ToyModel model(0, DType::f64);
    auto data = std::make_shared<test::SuccessorData>(3);
    TrainingJob job{
        .model = model,
        .loss = model.loss_function(),
        .data = std::make_unique<EpochBatches>(std::make_shared<Subset>(data, 0, 3),
                                               EpochOptions{.batch_size = 2, .shuffle = false, .epochs = {}}),
        .validation = data};
    options.eval_batch_size = 2;
    options.eval_each_epoch = true;
    const TrainingResult result = Trainer(std::move(job), options).run();
    REQUIRE(result.epochs.size() == 1);
    CHECK(result.epochs[0].epoch == 1);
    REQUIRE(result.epochs[0].val_loss);
    // The rate is 0 and the data are the same: what training saw is what validation sees.
    CHECK(result.epochs[0].train_loss == doctest::Approx(*result.epochs[0].val_loss).epsilon(1e-12));
    return result.epochs[0].train_loss;
  };
  ToyModel model(0, DType::f64);
  const auto loss_of = [&](std::int64_t begin, std::int64_t count) {
    const Subset rows(std::make_shared<test::SuccessorData>(3), begin, count);
    return evaluate(model, model.loss_function(), rows)->loss;
  };
  CHECK(first_loss(false) == doctest::Approx(loss_of(0, 3)).epsilon(1e-12));
  CHECK(first_loss(true) == doctest::Approx((loss_of(0, 2) + loss_of(2, 1)) / 2).epsilon(1e-12));
}

TEST_CASE("clipping scales the gradient, reports its norm before, and 0 turns it off") {
  const auto run = [](double max_norm, std::vector<StepReport>* reports) {
    TrainerOptions options = steps(1);
    options.max_norm = max_norm;
    options.optimizer.epsilon = 1;  // so that the size of the gradient matters
    return parameters_after(options, toy_batches(7, 7), reports);
  };
  std::vector<StepReport> off, loose, tight;
  const NamedTensors unclipped = run(0, &off);
  check_close(run(100, &loose), unclipped, 0);
  const NamedTensors clipped = run(off[0].grad_norm / 2, &tight);
  CHECK(tight[0].grad_norm == off[0].grad_norm);
  CHECK(loose[0].grad_norm == off[0].grad_norm);
  // With a large ε the first change is γ·g/(|g| + ε): smaller for the clipped gradient everywhere.
  const std::vector<double> a = clipped[2].second.to_vector<double>(), b = unclipped[2].second.to_vector<double>();
  CHECK(a != b);
}

TEST_CASE("the rate of step n is the schedule's at n - 1") {
  TrainerOptions options = steps(5);
  options.schedule = {.shape = ScheduleShape::linear, .learning_rate = 1e-2, .warmup_steps = 2, .decay_steps = 4};
  std::vector<StepReport> reports;
  parameters_after(options, toy_batches(7, 7), &reports);
  REQUIRE(reports.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(reports[i].step == static_cast<std::int64_t>(i) + 1);
    CHECK(reports[i].last_step == 5);
    CHECK(reports[i].learning_rate == learning_rate_at(options.schedule, static_cast<std::int64_t>(i)));
  }
}

TEST_CASE("the smoothed loss is the moving average without its start's bias") {
  TrainerOptions options = steps(3);
  options.loss_smoothing = 0.5;
  std::vector<StepReport> r;
  parameters_after(options, toy_batches(7, 7), &r);
  CHECK(r[0].smoothed_loss == doctest::Approx(r[0].loss));
  CHECK(r[1].smoothed_loss == doctest::Approx((r[0].loss + 2 * r[1].loss) / 3));
  CHECK(r[2].smoothed_loss == doctest::Approx((r[0].loss + 2 * r[1].loss + 4 * r[2].loss) / 7));
}

TEST_CASE("how often is evaluated and saved changes nothing about the result") {
  const auto run = [](std::int64_t eval_every, std::int64_t save_every) {
    const test::TemporaryFolder folder;
    default_generator() = Generator(9);
    ToyModel model(0.3);
    TrainerOptions options = steps(9, 2);
    options.eval_every = eval_every;
    options.save_every = save_every;
    TrainingJob job{.model = model,
                    .loss = model.loss_function(),
                    .data = toy_batches(10, 3, true),
                    .validation = std::make_shared<test::SuccessorData>(6),
                    .folder = folder.path()};
    Trainer(std::move(job), options).run();
    return read_file(folder.path() / "checkpoints" / "step-9" / "model.safetensors");
  };
  const std::string plain = run(0, 0);
  CHECK(run(1, 0) == plain);
  CHECK(run(4, 2) == plain);
}

TEST_CASE("metrics.jsonl has a line for each step, with the validation loss where it was measured") {
  const test::TemporaryFolder folder;
  ToyModel model;
  TrainerOptions options = steps(5);
  options.eval_every = 2;
  TrainingJob job{.model = model,
                  .loss = model.loss_function(),
                  .data = toy_batches(14, 7),
                  .validation = std::make_shared<test::SuccessorData>(6),
                  .folder = folder.path()};
  const TrainingResult result = Trainer(std::move(job), options).run();
  const std::string text = read_file(folder.path() / "metrics.jsonl");
  std::vector<Json> lines;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
    lines.push_back(parse_json(text.substr(begin, end - begin), "line"));
  REQUIRE(lines.size() == 5);
  for (std::size_t i = 0; i < 5; ++i) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : lines[i].items()) keys.push_back(key);
    std::vector<std::string> expected{"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s"};
    if (i == 1 || i == 3 || i == 4) expected.push_back("val_loss");  // every second, and the last
    CHECK(keys == expected);
    CHECK(lines[i]["step"] == i + 1);
    CHECK(lines[i]["tokens"] == 35 * (i + 1));
    CHECK(lines[i]["tokens_per_s"].get<double>() > 0);
  }
  CHECK(lines[4]["val_loss"].get<double>() == result.val_loss);
  CHECK(result.step == 5);
  CHECK(result.tokens == 5 * 35);
  CHECK_FALSE(result.interrupted);
  CHECK(result.peak_memory_bytes > 0);
}

TEST_CASE("a step without a finite loss or gradient is left out and reported") {
  const auto run = [](Tensor (*broken)(const Tensor&), const std::string& reason) {
    ToyModel model;
    std::vector<std::string> notices;
    std::vector<StepReport> reports;
    std::vector<Tensor> heads;
    TrainingJob job{.model = model,
                    .loss =
                        [&](const Tensor& ids, const Tensor& targets) {
                          const Tensor loss = model.loss(ids, targets);
                          return model.calls == 4 || model.calls == 5 ? broken(loss) : loss;
                        },
                    .data = toy_batches(7, 7)};
    job.on_step = [&](const StepReport& report) {
      reports.push_back(report);
      heads.push_back(packed_copy(model.named_parameters()[2].second));
    };
    job.notice = [&](const std::string& text) { notices.push_back(text); };
    const TrainingResult result = Trainer(std::move(job), steps(8)).run();
    CHECK(result.step == 8);
    REQUIRE(reports.size() == 8);
    for (std::size_t i = 0; i < 8; ++i) {
      CAPTURE(i);
      const bool bad = i == 3 || i == 4;
      CHECK(reports[i].skipped == (bad ? reason : ""));
      if (i > 0) CHECK(bit_equal(heads[i], heads[i - 1]) == bad);
      CHECK(std::isfinite(reports[i].smoothed_loss));
    }
    CHECK(notices == std::vector<std::string>{"step 4: " + reason + "; the update is left out",
                                              "step 5: " + reason + "; the update is left out"});
  };
  run(explode, "the loss is NaN");
  run(infinite_gradient, "the norm of the gradient is NaN");
}

TEST_CASE("too many bad steps in a row end the run with the operation's name" * doctest::test_suite("cpu")) {
  const auto run = [](int from, const LossFunction& change) {
    ToyModel model;
    TrainerOptions options = steps(20);
    options.max_bad_steps = 3;
    TrainingJob job{.model = model,
                    .loss =
                        [&](const Tensor& ids, const Tensor& targets) {
                          const Tensor loss = model.loss(ids, targets);
                          return model.calls >= from ? change(loss, targets) : loss;
                        },
                    .data = toy_batches(7, 7)};
    Trainer trainer(std::move(job), options);
    const std::string text = test::error_text<Error>([&] { trainer.run(); });
    CHECK(trainer.step() == from + 2);
    return text;
  };
  CHECK(run(5, [](const Tensor& loss, const Tensor&) { return explode(loss); }) ==
        "training: no update for 3 steps in a row; step 7: the loss is NaN; anomaly: 'explode' made a NaN or infinity "
        "in f32[]@cpu from finite inputs");
  const std::string gradient = run(2, [](const Tensor& loss, const Tensor&) { return infinite_gradient(loss); });
  CHECK(test::contains(gradient, "step 4: the norm of the gradient is NaN; anomaly:"));
  CHECK(test::contains(gradient, "infinite_gradient"));
}

TEST_CASE("a parameter that is not finite is named") {
  ToyModel model;
  Tensor gain = model.named_parameters()[1].second;
  fill_(gain, std::numeric_limits<double>::infinity());
  TrainerOptions options = steps(20);
  options.max_bad_steps = 1;
  TrainingJob job{.model = model, .loss = model.loss_function(), .data = toy_batches(7, 7)};
  Trainer trainer(std::move(job), options);
  CHECK(test::contains(test::error_text<Error>([&] { trainer.run(); }),
                       "the parameter 'norm.weight' holds a NaN or infinity"));
}

TEST_CASE("batches without a counted target weigh nothing") {
  struct Sparse final : Dataset {  // every second item has no target
    std::int64_t size() const override { return 4; }
    std::int64_t length() const override { return 3; }
    void read(std::int64_t index, ItemSpans item) const override {
      for (std::size_t i = 0; i < 3; ++i) {
        item.x[i] = index;
        item.y[i] = index % 2 == 1 ? kIgnoreTarget : 1;
      }
    }
    std::string fingerprint() const override { return "sparse"; }
  };
  const auto batches = [](std::int64_t size) {
    return std::make_unique<EpochBatches>(std::make_shared<Sparse>(),
                                          EpochOptions{.batch_size = size, .shuffle = false, .epochs = {}});
  };
  check_close(parameters_after(steps(2, 4), batches(1)), parameters_after(steps(2), batches(4)), 1e-12);
  std::vector<StepReport> reports;
  parameters_after(steps(4), batches(1), &reports);
  CHECK(reports[1].skipped == "no target counts");
  CHECK(reports[2].skipped.empty());
}

TEST_CASE("training ends with the epochs, or with the data") {
  TrainerOptions options{.epochs = 2, .accumulation = 2, .schedule = {.learning_rate = 0.01}};
  std::vector<StepReport> reports;
  parameters_after(options, toy_batches(5, 1), &reports);
  CHECK(reports.size() == 6);
  const auto finite = [] {
    return std::make_unique<EpochBatches>(std::make_shared<test::SuccessorData>(5),
                                          EpochOptions{.batch_size = 2, .shuffle = true, .epochs = 1});
  };
  reports.clear();
  parameters_after(steps(100), finite(), &reports);
  CHECK(reports.size() == 3);
}

TEST_CASE("options out of range name the field and the value") {
  const auto refused = [](TrainerOptions options, const std::string& text) {
    CHECK(test::error_text<UsageError>([&] { validate(options); }) == text);
  };
  refused({}, "steps: neither steps nor epochs says when to stop; give one of them");
  refused({.steps = -1}, "steps: -1 is below 0");
  refused({.steps = 1, .accumulation = 0}, "accumulation: 0 is below 1");
  refused({.steps = 1, .max_norm = std::nan("")}, "max_norm: nan is not a number >= 0");
  refused({.steps = 1, .keep_checkpoints = 0}, "keep_checkpoints: 0 is below 1");
  refused({.steps = 1, .max_bad_steps = 0}, "max_bad_steps: 0 is below 1");
  refused({.steps = 1, .loss_smoothing = 1}, "loss_smoothing: 1 is not in [0, 1)");
  refused({.steps = 1, .schedule = {.learning_rate = std::nan("")}},
          "learning_rate: nan is not a learning rate; give a finite number >= 0");
}
