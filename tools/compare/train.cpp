#include "tools/compare/train.h"

#include "train/answers.h"
#include "train/trainer.h"
#include "train/training_data.h"

namespace sq::compare {
namespace {

constexpr std::int64_t kCurvePoints = 40, kAccuracyPoints = 10, kValidationItems = 400;

/// What both kinds of training share, apart from data.
TrainingConfig training_config(const Settings& settings, std::int64_t steps, std::int64_t batch_size) {
  TrainingConfig config;
  config.batch_size = batch_size;
  config.context = settings.context;
  config.steps = steps;
  config.learning_rate = settings.learning_rate;
  config.min_learning_rate = settings.learning_rate / 10;
  config.warmup_steps = steps / 20;
  config.seed = settings.common.seed;
  return config;
}

TrainingConfig text_config(const Settings& settings) {
  return training_config(settings, settings.train_steps, settings.train_batch_size);
}

TrainingData text_data(const Settings& settings) {
  const std::vector<std::filesystem::path> files(settings.data.begin(), settings.data.end());
  return make_training_data(text_config(settings), files);
}

TrainerOptions trainer_options(const Settings& settings, const TrainingConfig& config) {
  TrainerOptions options;
  options.steps = config.steps;
  options.max_norm = config.grad_clip;
  options.eval_batch_size = config.batch_size;
  options.loss_smoothing = config.progress_smoothing;
  options.dtype = settings.common.options().dtype;
  options.optimizer = {.beta1 = config.beta1, .beta2 = config.beta2, .weight_decay = config.weight_decay};
  options.schedule = config.make_schedule();
  return options;
}

/// Every so many steps, so that a curve has about `points` of them.
std::int64_t every(std::int64_t steps, std::int64_t points) { return std::max<std::int64_t>(1, steps / points); }

Json run(TrainingJob job, const TrainerOptions& options, const Stop& stop) {
  job.stop = &stop;
  const TrainingResult result = Trainer(std::move(job), options).run();
  if (result.interrupted) throw Interrupted();
  Json record{{"steps", result.step}, {"loss", result.smoothed_loss}, {"seconds", result.seconds}};
  if (result.val_loss) record["val_loss"] = *result.val_loss;
  if (result.val_accuracy) record["accuracy"] = *result.val_accuracy;
  return record;
}

}  // namespace

void check_training_data(const Settings& settings) {
  if (settings.train_steps > 0) text_data(settings);
}

Json train_on_text(const Settings& settings, const Contender& contender, const Stop& stop, const OnStep& on_step) {
  TrainingData data = text_data(settings);
  const auto model = make_model(settings, contender, settings.context, data.vocab_size);
  Json curve = Json::array();
  const std::int64_t stride = every(settings.train_steps, kCurvePoints);
  TrainingJob job{.model = *model,
                  .loss = [&](const Tensor& ids, const Tensor& targets) { return model->loss(ids, targets); },
                  .data = std::move(data.batches),
                  .validation = data.validation};
  job.on_step = [&](const StepReport& report) {
    if (report.step % stride == 0 || report.step == report.last_step || report.step == 1)
      curve.push_back({report.step, report.smoothed_loss});
    on_step(report.step, report.last_step);
  };
  Json record = run(std::move(job), trainer_options(settings, text_config(settings)), stop);
  record["curve"] = std::move(curve);
  return record;
}

Json train_on_task(const Settings& settings, const Contender& contender, const TaskSpec& spec, const Stop& stop,
                   const OnStep& on_step) {
  const TrainingConfig config = training_config(settings, settings.task_steps, settings.task_batch_size);
  const auto seed = static_cast<std::uint64_t>(settings.common.seed);
  const auto model = make_model(settings, contender, spec.length, spec.task.make(spec.length)->vocab_size());
  Json curve = Json::array();
  TrainingJob job{.model = *model,
                  .loss = [&](const Tensor& ids, const Tensor& targets) { return answer_loss(*model, ids, targets); },
                  .data = std::make_unique<EpochBatches>(
                      spec.task.data(spec.length, seed, TaskPart::training),
                      EpochOptions{.batch_size = config.batch_size, .shuffle = false, .seed = seed, .epochs = {}}),
                  .validation = spec.task.data(spec.length, seed, TaskPart::validation, kValidationItems)};
  job.right_answers = [&](const Tensor& ids, const Tensor& targets) {
    return count_right_answers(*model, ids, targets);
  };
  job.on_step = [&](const StepReport& report) {
    if (report.val_accuracy) curve.push_back({report.step, *report.val_accuracy});
    on_step(report.step, report.last_step);
  };
  TrainerOptions options = trainer_options(settings, config);
  options.eval_every = every(config.steps, kAccuracyPoints);
  Json record = run(std::move(job), options, stop);
  record["length"] = spec.length;
  record["curve"] = std::move(curve);
  return record;
}

}  // namespace sq::compare
