#include "train/trainer.h"

#include "autograd/autocast.h"
#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "tensor/memory.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace sq {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::string_view value_name(double not_finite) { return std::isnan(not_finite) ? "NaN" : "infinite"; }

}  // namespace

void validate(const TrainerOptions& o) {
  const auto at_least = [](std::string_view field, std::int64_t value, std::int64_t least) {
    require_input(value >= least, field, "{} is below {}", value, least);
  };
  at_least("steps", o.steps, 0);
  at_least("epochs", o.epochs, 0);
  at_least("accumulation", o.accumulation, 1);
  at_least("eval_every", o.eval_every, 0);
  at_least("eval_batch_size", o.eval_batch_size, 1);
  at_least("save_every", o.save_every, 0);
  at_least("keep_checkpoints", o.keep_checkpoints, 1);
  at_least("max_bad_steps", o.max_bad_steps, 1);
  at_least("loader_depth", o.loader_depth, 1);
  require_input(std::isfinite(o.max_norm) && o.max_norm >= 0, "max_norm", "{} is not a number >= 0", o.max_norm);
  require_input(o.loss_smoothing >= 0 && o.loss_smoothing < 1, "loss_smoothing", "{} is not in [0, 1)",
                o.loss_smoothing);
  require_input(o.steps > 0 || o.epochs > 0, "steps", "neither steps nor epochs says when to stop; give one of them");
  validate(o.optimizer);
  validate(o.schedule);
}

Trainer::Trainer(TrainingJob job, const TrainerOptions& options)
    : job_(std::move(job)), options_(options), optimizer_(job_.model, options.optimizer) {
  validate(options);
  require(options.dtype == DType::f32 || is_half(options.dtype), "trainer",
          "dtype {} is not offered; use f32, bf16 or f16", name(options.dtype));
  require(job_.data && job_.loss, "trainer", "a job needs data and a loss function");
}

Trainer::~Trainer() = default;

bool Trainer::limit_reached() const {
  return (options_.steps > 0 && counters_.step >= options_.steps) ||
         (options_.epochs > 0 && static_cast<std::int64_t>(counters_.epochs.size()) >= options_.epochs);
}

double Trainer::smoothed_loss() const {
  return counters_.smoothed_weight > 0 ? counters_.smoothed_loss / counters_.smoothed_weight : kNaN;
}

void Trainer::notify(const std::string& text) const {
  if (job_.notice) job_.notice(text);
}

TrainingResult Trainer::run() {
  if (!loader_) loader_ = std::make_unique<BatchLoader>(std::move(job_.data), options_.loader_depth);
  if (!metrics_ && !job_.folder.empty())
    metrics_ = std::make_unique<MetricsFile>(job_.folder / "metrics.jsonl", counters_.step);
  reset_peak_memory(default_device());
  job_.model.train();
  TrainingResult result;
  const std::int64_t tokens_before = counters_.tokens;
  Outcome outcome = Outcome::done;
  while (!limit_reached() || counters_.open) {
    StepReport report;
    outcome = train_step(report);
    if (outcome != Outcome::done) break;
    result.seconds += report.seconds;
    if (job_.on_step) job_.on_step(report);
    if (options_.save_every > 0 && counters_.step % options_.save_every == 0 && !limit_reached()) try_to_save();
  }
  if (outcome == Outcome::data_ended && job_.validation) remember(validate_model());
  save();
  result.interrupted = outcome == Outcome::stopped;
  result.step = counters_.step;
  result.smoothed_loss = smoothed_loss();
  result.val_loss = counters_.val_loss;
  result.val_accuracy = counters_.val_accuracy;
  result.epochs = counters_.epochs;
  result.tokens = counters_.tokens - tokens_before;
  result.peak_memory_bytes = memory_statistics(default_device()).peak;
  return result;
}

Trainer::Outcome Trainer::train_step(StepReport& report) {
  if (counters_.open) {
    report = *counters_.open;
    return finish_step(report) ? Outcome::done : Outcome::stopped;
  }
  const Stopwatch watch;
  if (const Outcome fetched = fetch_group(); fetched != Outcome::done) return fetched;
  report.learning_rate = learning_rate_at(options_.schedule, counters_.step);
  report.grad_norm = kNaN;
  report.loss_scale = loss_scale();
  Tensor loss;
  if (!accumulate_gradients(report, loss)) {
    job_.model.clear_gradients();
    default_generator() = generator_;  // the same random numbers when the step is begun again
    return Outcome::stopped;
  }
  update(report, loss);
  job_.model.clear_gradients();  // their memory serves the evaluation and the next step
  report.seconds = watch.seconds();
  count_step(report);
  if (counters_.bad_steps >= options_.max_bad_steps) {
    write_metrics(report);
    give_up(report);
  }
  group_.clear();
  return finish_step(report) ? Outcome::done : Outcome::stopped;
}

Trainer::Outcome Trainer::fetch_group() {
  if (group_.empty()) remember_position();
  const auto complete = [&] {
    return static_cast<std::int64_t>(group_.size()) == options_.accumulation ||
           (!group_.empty() && group_.back().ends_epoch);
  };
  Batch batch;
  while (!complete()) {
    if (stopped()) return Outcome::stopped;
    if (!loader_->next(batch)) return group_.empty() ? Outcome::data_ended : Outcome::done;
    const auto ignored = std::count(batch.y.begin(), batch.y.end(), kIgnoreTarget);
    group_.push_back({.ids = batch.inputs(),
                      .targets = batch.targets(),
                      .counted = static_cast<std::int64_t>(batch.y.size()) - ignored,
                      .ends_epoch = batch.ends_epoch});
  }
  return Outcome::done;
}

/// What a batch counts for in means of losses.
double Trainer::weight(const MicroBatch& batch) const {
  if (batch.counted == 0) return 0;
  return options_.faithful ? 1 : static_cast<double>(batch.counted);
}

/// In the run's precision.
Tensor Trainer::loss(const Tensor& ids, const Tensor& targets) const {
  const Autocast precision(options_.dtype);
  return job_.loss(ids, targets);
}

/// Leaves in the parameters the gradient of scale · Σ share_i · loss_i and in `loss` the mean loss, undefined where
/// there is none. Nothing waits for a GPU. Returns false when the run was stopped in between.
bool Trainer::accumulate_gradients(const StepReport& report, Tensor& loss) {
  double total = 0;
  for (const MicroBatch& batch : group_) total += weight(batch);
  if (total == 0) return true;
  const double whole = options_.faithful ? static_cast<double>(options_.accumulation) : total;
  for (const MicroBatch& batch : group_) {
    if (stopped()) return false;
    if (batch.counted == 0) continue;
    const Tensor own = this->loss(batch.ids, batch.targets);
    const Tensor share = mul(cast(detach(own), DType::f64), weight(batch) / total);
    loss = loss.defined() ? add(loss, share) : share;
    backward(own, Tensor::full(own.shape(), report.loss_scale * weight(batch) / whole, own.options()));
  }
  return true;
}

void Trainer::update(StepReport& report, const Tensor& loss) {
  if (!loss.defined()) {
    report.loss = kNaN;
    report.skipped = "no target counts";
    return;
  }
  const double norm = optimizer_.step(report.learning_rate, options_.max_norm, report.loss_scale, loss);
  report.loss = loss.item();
  if (!std::isfinite(report.loss)) {
    report.skipped = fmt::format("the loss is {}", value_name(report.loss));
    return;
  }
  report.grad_norm = norm;
  if (std::isfinite(norm)) return loss_scale_.succeeded();
  report.overflowed = options_.dtype == DType::f16 && loss_scale_.overflowed();
  report.skipped = report.overflowed
                       ? fmt::format("the gradient overflows f16; the loss scale falls to {}", loss_scale())
                       : fmt::format("the norm of the gradient is {}", value_name(norm));
}

/// Moves the counters past the step and completes the report.
void Trainer::count_step(StepReport& report) {
  std::int64_t tokens = 0;
  double total = 0;
  for (const MicroBatch& batch : group_) {
    tokens += batch.ids.numel();
    total += weight(batch);
  }
  ++counters_.step;
  counters_.tokens += tokens;
  if (report.skipped.empty()) {
    counters_.bad_steps = 0;
    const double keep = options_.loss_smoothing;
    counters_.smoothed_loss = keep * counters_.smoothed_loss + (1 - keep) * report.loss;
    counters_.smoothed_weight = keep * counters_.smoothed_weight + (1 - keep);
    counters_.epoch_loss += total * report.loss;
    counters_.epoch_weight += total;
  } else {
    if (!report.overflowed) ++counters_.bad_steps;
    notify(fmt::format("step {}: {}; the update is left out", counters_.step, report.skipped));
  }
  report.ends_epoch = group_.back().ends_epoch;
  if (report.ends_epoch) end_epoch();
  report.step = counters_.step;
  report.last_step = options_.steps;
  report.epoch = static_cast<std::int64_t>(counters_.epochs.size());
  report.smoothed_loss = smoothed_loss();
  report.tokens = counters_.tokens;
  report.tokens_per_s = static_cast<double>(tokens) / std::max(report.seconds, 1e-9);
}

/// Evaluates where that is due and writes the step down. Returns false when the run was stopped meanwhile; the step is
/// then finished later.
bool Trainer::finish_step(StepReport& report) {
  if (job_.validation && evaluation_due(report)) {
    const std::optional<Evaluation> evaluation = validate_model();
    if (!evaluation) {
      counters_.open = report;
      return false;
    }
    remember(evaluation);
    report.val_loss = evaluation->loss;
    report.val_accuracy = evaluation->accuracy;
    if (report.ends_epoch) counters_.epochs.back().val_loss = report.val_loss;
  }
  if (counters_.open) saved_step_ = -1;  // what was saved lacks the evaluation
  counters_.open.reset();
  write_metrics(report);
  return true;
}

void Trainer::end_epoch() {
  counters_.epochs.push_back(
      {.epoch = static_cast<std::int64_t>(counters_.epochs.size()) + 1,
       .train_loss = counters_.epoch_weight > 0 ? counters_.epoch_loss / counters_.epoch_weight : kNaN,
       .val_loss = {}});
  counters_.epoch_loss = counters_.epoch_weight = 0;
}

bool Trainer::evaluation_due(const StepReport& report) const {
  return limit_reached() || (options_.eval_each_epoch && report.ends_epoch) ||
         (options_.eval_every > 0 && report.step % options_.eval_every == 0);
}

/// Nothing when the run is stopped meanwhile.
std::optional<Evaluation> Trainer::validate_model() {
  EvaluateOptions options{
      .batch_size = options_.eval_batch_size, .mean_of_batches = options_.faithful, .stop = job_.stop};
  if (job_.right_answers)
    options.right_answers = [this](const Tensor& ids, const Tensor& targets) {
      const Autocast precision(options_.dtype);
      return job_.right_answers(ids, targets);
    };
  return evaluate(
      job_.model, [this](const Tensor& ids, const Tensor& targets) { return loss(ids, targets); }, *job_.validation,
      options);
}

void Trainer::remember(const std::optional<Evaluation>& evaluation) {
  counters_.val_loss = evaluation ? std::optional(evaluation->loss) : std::nullopt;
  counters_.val_accuracy = evaluation ? evaluation->accuracy : std::nullopt;
}

void Trainer::write_metrics(const StepReport& report) {
  if (!metrics_) return;
  Json line = {{"step", report.step},           {"loss", report.loss},     {"lr", report.learning_rate},
               {"grad_norm", report.grad_norm}, {"tokens", report.tokens}, {"tokens_per_s", report.tokens_per_s}};
  if (options_.dtype == DType::f16) line["loss_scale"] = report.loss_scale;
  if (report.val_loss) line["val_loss"] = *report.val_loss;
  if (report.val_accuracy) line["val_accuracy"] = *report.val_accuracy;
  if (!report.skipped.empty()) line["skipped"] = report.skipped;
  const bool refused = !metrics_->append(line);
  if (refused && !metrics_refused_)
    notify("metrics.jsonl cannot be written (is the disk full?); its lines wait until it can");
  metrics_refused_ = refused;
}

void Trainer::give_up(const StepReport& report) {
  throw Error(fmt::format("training: no update for {} steps in a row; step {}: {}; {}", counters_.bad_steps,
                          report.step, report.skipped, find_culprit()));
}

/// Runs the step again, watched. The parameters are those of the bad step, since it changed nothing.
std::string Trainer::find_culprit() {
  for (const auto& [name, parameter] : job_.model.named_parameters())
    if (!all_finite(parameter)) return fmt::format("the parameter '{}' holds a NaN or infinity", name);
  default_generator() = generator_;
  try {
    const AnomalyMode watch;
    for (const MicroBatch& batch : group_)
      if (batch.counted > 0) {
        const Tensor loss = this->loss(batch.ids, batch.targets);
        backward(loss, Tensor::full(loss.shape(), loss_scale(), loss.options()));
      }
  } catch (const Error& error) {
    return error.what();
  }
  return "no single operation made it from finite values";
}

}  // namespace sq
