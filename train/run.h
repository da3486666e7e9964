// train/run.h: a whole training run in a folder: data, model, trainer, checkpoints, and the model folder it leaves.
//
// The folder holds config.json, model.safetensors and tokenizer.json (the model as of the last save, ready to use),
// run.json (configuration and data files), metrics.jsonl and checkpoints/.
#pragma once

#include "models/language_model.h"
#include "train/trainer.h"
#include "train/training_config.h"
#include "train/training_data.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

namespace sq {

struct RunOptions {
  std::filesystem::path folder;
  std::vector<std::filesystem::path> files;  // none: the embedded corpus, or a made-up task
  RunStart start = RunStart::fresh;
  const std::atomic<bool>* stop = nullptr;  // becoming true interrupts the run, which is saved first
  std::function<void(const StepReport&)> on_step = {};
  Notice notice = {};
};

struct RunResult {
  TrainingResult training;
  std::optional<Evaluation> validation;  // over the whole validation part; none when interrupted or there is none
  EvaluationProtocol protocol;
};

/// A run, ready to train.
class TrainingRun {
 public:
  /// Reads the data, builds the model and the trainer and, with RunStart::resume, takes over the newest checkpoint.
  /// Nothing is written before all of this has succeeded. Throws UsageError for bad data, configurations that do not
  /// fit (an input longer than the model reads), a folder that holds a run, or on resuming one that
  /// holds none or was made with another configuration or other data (the keys that differ are named).
  TrainingRun(const RunConfig& config, RunOptions options);
  ~TrainingRun();

  LanguageModel& model() { return *model_; }
  const TrainingData& data() const { return data_; }
  const RunConfig& config() const { return config_; }
  std::int64_t step() const { return trainer_->step(); }

  /// Trains, saves the model folder, and measures the loss on the whole validation part.
  RunResult run();

 private:
  void save();
  Tensor loss(const Tensor& ids, const Tensor& targets);
  RightAnswers right_answers();

  RunConfig config_;
  RunOptions options_;
  TrainingData data_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<Trainer> trainer_;
};

/// What run.json in a run's folder says: configuration and data files, for going on without repeating them. Throws
/// UsageError when there is none.
std::pair<RunConfig, std::vector<std::filesystem::path>> read_run(const std::filesystem::path& folder);

}  // namespace sq
