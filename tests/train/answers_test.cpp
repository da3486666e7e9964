#include "train/answers.h"

#include "autograd/engine.h"
#include "ops/reduce.h"
#include "tests/support/compare.h"
#include "tests/train/error_text.h"
#include "train/data/tasks.h"
#include "train/evaluate.h"
#include "train/trainer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace sq;

namespace {

LanguageModel tiny_model(std::int64_t vocab_size) {
  Generator generator(5);
  return LanguageModel(
      config_from_json<ModelConfig>({{"vocab_size", vocab_size},
                                     {"hidden_size", 32},
                                     {"num_layers", 2},
                                     {"max_seq_len", 64},
                                     {"feed_forward", {{"type", "swiglu"}, {"width", 32}}},
                                     {"mixer", {{"type", "dense"}, {"num_heads", 2}, {"num_kv_heads", 2}}}}),
      {}, generator);
}

Batch batch_of(const Dataset& data, std::int64_t rows) {
  Batch batch;
  batch.resize(rows, data.length());
  for (std::int64_t row = 0; row < rows; ++row) data.read(row, batch.row(row));
  return batch;
}

}  // namespace

TEST_CASE("the loss of answers is the model's loss, with the same gradients") {
  LanguageModel model = tiny_model(20);
  const auto data =
      TaskConfig::from_json({{"type", "mqar"}, {"vocab_size", 20}, {"pairs", 3}}, "").data(16, 1, TaskPart::training);
  const Batch batch = batch_of(*data, 4);
  const auto gradients = [&](auto loss) {
    model.clear_gradients();
    backward(loss);
    std::vector<Tensor> result;
    for (const auto& [name, parameter] : model.named_parameters()) result.push_back(packed_copy(grad(parameter)));
    return result;
  };
  const Tensor whole = model.loss(batch.inputs(), batch.targets());
  const Tensor asked = answer_loss(model, batch.inputs(), batch.targets());
  CHECK(asked.item() == doctest::Approx(whole.item()).epsilon(1e-6));
  const auto a = gradients(whole), b = gradients(asked);
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(test::relative_error(a[i], b[i]) < 1e-4);
  const Tensor none = Tensor::full(batch.targets().shape(), kIgnoreTarget, batch.targets().options());
  CHECK(test::contains(test::error_text<Error>([&] { answer_loss(model, batch.inputs(), none); }), "nothing is asked"));
}

TEST_CASE("right answers are counted where something is asked") {
  LanguageModel model = tiny_model(12);
  const Tensor ids = Tensor::from<std::int64_t>({3, 1, 4, 1, 5, 9, 2, 6}, {2, 4});
  const std::vector<std::int64_t> guesses = argmax(model.forward(ids), -1).to_vector<std::int64_t>();
  std::vector<std::int64_t> targets(8, kIgnoreTarget);
  targets[1] = guesses[1];
  targets[3] = (guesses[3] + 1) % 12;
  targets[6] = guesses[6];
  CHECK(count_right_answers(model, ids, Tensor::from(targets, {2, 4})) == 2);
}

TEST_CASE("a small dense model learns associative recall, and says so" * doctest::test_suite("cpu")) {
  LanguageModel model = tiny_model(16);
  const TaskConfig task =
      TaskConfig::from_json({{"type", "mqar"}, {"vocab_size", 16}, {"pairs", 2}, {"random_filler", false}}, "task");
  TrainingJob job{
      .model = model,
      .loss = [&](const Tensor& ids, const Tensor& targets) { return answer_loss(model, ids, targets); },
      .data = std::make_unique<EpochBatches>(task.data(8, 1, TaskPart::training),
                                             EpochOptions{.batch_size = 64, .shuffle = false, .epochs = {}}),
      .validation = task.data(8, 1, TaskPart::validation, 200)};
  job.right_answers = [&](const Tensor& ids, const Tensor& targets) {
    return count_right_answers(model, ids, targets);
  };
  // Played by the host, a GPU takes minutes to learn; that it can be trained and asked at all is shown in a few steps.
  const std::int64_t evaluations = default_device().is_cuda() ? 1 : 20, every = default_device().is_cuda() ? 2 : 20;
  std::vector<StepReport> evaluated;
  job.on_step = [&](const StepReport& report) {
    if (report.val_accuracy) evaluated.push_back(report);
  };
  const TrainingResult result = Trainer(std::move(job), {.steps = evaluations * every,
                                                         .eval_every = every,
                                                         .eval_batch_size = 100,
                                                         .optimizer = {.weight_decay = 0},
                                                         .schedule = {.learning_rate = 0.004}})
                                    .run();
  REQUIRE(evaluated.size() == static_cast<std::size_t>(evaluations));
  CHECK(*evaluated.front().val_accuracy < 0.9);
  if (evaluations > 1) CHECK(*result.val_accuracy > 0.97);
  CHECK(result.val_accuracy == evaluated.back().val_accuracy);
}
