// train/trainer.h: the training loop.
//
// One step, the n-th (n from 1), is one update of the parameters:
//   take `accumulation` batches (fewer at the end of an epoch), forward and backward for each, clip, AdamW with the
//   rate of the schedule at n - 1.
// The gradient is that of the mean loss over all targets of the step: batch i with c_i counted targets has the share
// c_i / Σ c, so a short last batch or group weighs what it holds.
//
// A run is a function of its configuration and data alone: stopped anywhere and resumed it takes the same steps, bit
// for bit, as one that was never stopped.
#pragma once

#include "tensor/random.h"
#include "train/checkpoint.h"
#include "train/data/batch_loader.h"
#include "train/evaluate.h"
#include "train/log.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"
#include "train/schedule.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sq {

struct TrainerOptions {
  std::int64_t steps = 0;         // stop after so many; 0 = no limit
  std::int64_t epochs = 0;        // stop after so many passes over the data; 0 = no limit
  std::int64_t accumulation = 1;  // batches per step
  double max_norm = 1;            // gradients are scaled so that their global L2 norm is at most this; 0 = off
  std::int64_t eval_every = 0;    // validation loss after every so many steps; 0 = only at the end
  bool eval_each_epoch = false;   // and at the end of each epoch
  std::int64_t eval_batch_size = 8;
  std::int64_t save_every = 0;        // checkpoint after every so many steps; 0 = only at the end
  std::int64_t keep_checkpoints = 3;  // the newest so many stay
  std::int64_t max_bad_steps = 5;     // stop after so many steps in a row without a finite loss and gradient
  double loss_smoothing = 0.98;       // β of the smoothed loss
  std::int64_t loader_depth = 4;      // batches prepared ahead
  DType dtype = DType::f32;           // of products (autograd/autocast.h); with f16 the loss is scaled (loss_scale.h)
  AdamWSettings optimizer = {};
  Schedule schedule = {};
  /// The original HALO-S trainer: each batch's share is 1 / accumulation also where fewer are left, losses are means
  /// over batches and not over targets. With optimizer.decay = all and a constant schedule the whole original recipe.
  bool faithful = false;
};

/// Throws UsageError that names the field, its value and the rule.
void validate(const TrainerOptions& options);

struct StepReport {
  std::int64_t step = 0;       // number of this step, from 1
  std::int64_t last_step = 0;  // number of the last one; 0 = not known
  std::int64_t epoch = 0;      // epochs finished, the one that ends with this step included
  double loss = 0;             // before the update; NaN or infinite for some bad steps
  double smoothed_loss = 0;    // exponential moving average without its start's bias
  double learning_rate = 0;
  double grad_norm = 0;     // before clipping; NaN where none was computed
  std::int64_t tokens = 0;  // read for training since the run began
  double seconds = 0;       // from asking for data to the end of the update
  double tokens_per_s = 0;  // of this step
  bool ends_epoch = false;
  std::string skipped = {};  // why there was no update; empty when there was one
  bool overflowed = false;   // because f16 gradients overflowed, which a smaller loss scale mends
  double loss_scale = 1;     // of this step
  std::optional<double> val_loss = {};
  std::optional<double> val_accuracy = {};  // with TrainingJob::right_answers
};

struct EpochReport {
  std::int64_t epoch = 0;  // from 1
  double train_loss = 0;   // mean over the epoch
  std::optional<double> val_loss;
};

struct TrainingResult {
  bool interrupted = false;
  std::int64_t step = 0;
  double smoothed_loss = 0;
  std::optional<double> val_loss = {};  // the last one measured
  std::optional<double> val_accuracy = {};
  std::vector<EpochReport> epochs = {};  // since the run began
  std::int64_t tokens = 0;               // in this call
  double seconds = 0;                    // of this call's steps
  std::size_t peak_memory_bytes = 0;     // tensors, in this call
};

/// What is trained, on what, and who is told.
struct TrainingJob {
  Module& model;
  LossFunction loss;
  std::unique_ptr<BatchSource> data;
  std::shared_ptr<const Dataset> validation = {};  // may be absent
  RightAnswers right_answers = {};                 // counted on it where set
  std::filesystem::path folder = {};               // metrics.jsonl and checkpoints/ (see open_run_folder); empty = none
  Json config = Json::object();                    // kept in checkpoints; must be the same on resuming,
  std::vector<std::string_view> free_config = {};  // these keys aside (see require_same_config)
  const std::atomic<bool>* stop = nullptr;         // becoming true interrupts the run
  std::function<void(const StepReport&)> on_step = {};  // after each step and its line in metrics.jsonl
  std::function<void()> on_save = {};                   // after each checkpoint
  Notice notice = {};                                   // one line for the user
};

class Trainer {
 public:
  /// Throws UsageError for options out of range.
  Trainer(TrainingJob job, const TrainerOptions& options);
  ~Trainer();

  /// Takes over the newest undamaged checkpoint of the folder; call it before run(). Throws UsageError when there is
  /// none, and when configuration, options that the parameters depend on (among them the schedule), data or model are
  /// not those of the run.
  void resume();

  /// Trains until a limit is reached, the data end, or `stop` becomes true; then a checkpoint is written. An
  /// interrupted step is taken back: resuming begins it again from its first batch. Where a loss or a gradient is not
  /// finite the update is left out and reported; after max_bad_steps in a row Error is thrown, naming the operation
  /// that made the first NaN or infinity; f16 gradients that a smaller loss scale mends do not count. A checkpoint that
  /// cannot be written is reported and training goes on; only when the last one fails is Error thrown.
  TrainingResult run();

  /// Steps finished since the run began.
  std::int64_t step() const { return counters_.step; }

 private:
  struct MicroBatch {
    Tensor ids, targets;
    std::int64_t counted = 0;  // targets that are not kIgnoreTarget
    bool ends_epoch = false;
  };
  /// What goes on from step to step, beside parameters, moments, data position and random state.
  struct Counters {
    std::int64_t step = 0, tokens = 0, bad_steps = 0;
    double smoothed_loss = 0, smoothed_weight = 0;  // moving sums of loss and of 1
    double epoch_loss = 0, epoch_weight = 0;        // Σ weight · loss and Σ weight over the epoch so far
    std::optional<double> val_loss = {};            // the last one measured
    std::optional<double> val_accuracy = {};
    std::vector<EpochReport> epochs;
    std::optional<StepReport> open;  // a step done but for its evaluation, which was interrupted
  };
  enum class Outcome { done, stopped, data_ended };

  bool stopped() const { return job_.stop && job_.stop->load(std::memory_order_relaxed); }
  bool limit_reached() const;
  double smoothed_loss() const;
  void notify(const std::string& text) const;

  // One step and its parts (trainer.cpp).
  Outcome train_step(StepReport& report);
  Outcome fetch_group();
  double weight(const MicroBatch& batch) const;
  Tensor loss(const Tensor& ids, const Tensor& targets) const;
  double loss_scale() const { return options_.dtype == DType::f16 ? loss_scale_.value() : 1; }
  bool accumulate_gradients(const StepReport& report, Tensor& loss);
  void update(StepReport& report, const Tensor& loss);
  void count_step(StepReport& report);
  bool finish_step(StepReport& report);
  void end_epoch();
  bool evaluation_due(const StepReport& report) const;
  std::optional<Evaluation> validate_model();
  void remember(const std::optional<Evaluation>& evaluation);
  void write_metrics(const StepReport& report);
  [[noreturn]] void give_up(const StepReport& report);
  std::string find_culprit();

  // Saving and going on (trainer_state.cpp).
  void remember_position();
  void save();
  void try_to_save();
  Json state_json() const;
  void restore_state(const Json& state);

  TrainingJob job_;
  TrainerOptions options_;
  AdamW optimizer_;
  LossScale loss_scale_;
  std::unique_ptr<BatchLoader> loader_;
  std::unique_ptr<MetricsFile> metrics_;
  bool metrics_refused_ = false;
  Counters counters_;
  std::int64_t saved_step_ = -1;

  // The batches of the step under way (kept when it is interrupted), and where data and generator stood before it.
  std::vector<MicroBatch> group_;
  SourceState position_;
  Generator generator_;
};

}  // namespace sq
