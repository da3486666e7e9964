// train/training_config.h: everything about a training run that is not the model.
#pragma once

#include "models/config.h"
#include "train/data/tasks.h"
#include "train/schedule.h"

namespace sq {

/// The dtype that products are made in; parameters and moments stay f32 (autograd/autocast.h).
enum class TrainingDType { f32, bf16, f16 };
constexpr std::array<std::string_view, 3> choices(TrainingDType) { return {"f32", "bf16", "f16"}; }

enum class TokenizerKind { byte, character, word };
constexpr std::array<std::string_view, 3> choices(TokenizerKind) { return {"byte", "char", "word"}; }

/// automatic: by the file's name, jsonl for *.jsonl, else text. stream: files of any size in order, through a shuffle
/// buffer.
enum class DataKind { automatic, text, jsonl, jsonl_lazy, stream };
constexpr std::array<std::string_view, 5> choices(DataKind) {
  return {"auto", "text", "jsonl", "jsonl_lazy", "stream"};
}

struct DataConfig {
  DataKind kind = DataKind::automatic;
  std::int64_t stride = 0;
  double validation_fraction = 0.1;
  std::string text_field = "text";
  std::int64_t shuffle_buffer = 10000;
  TaskConfig task = {};
  std::int64_t task_items = 0;
  std::int64_t task_validation_items = 500;

  static constexpr auto fields() {
    using C = DataConfig;
    return std::tuple{
        field("kind", &C::kind, "how files are read"),
        field("stride", &C::stride,
              "ids between two windows; 0 = windows at random places (text), the first window of each line (jsonl)",
              {.min = 0, .max = 1 << 30}),
        field("validation_fraction", &C::validation_fraction, "share at the end kept for validation; 0 = none",
              {.min = 0, .max = 1, .below_max = true}),
        field("text_field", &C::text_field, "jsonl: the key of the text"),
        field("shuffle_buffer", &C::shuffle_buffer, "stream: windows held for mixing", {.min = 1, .max = 1 << 30}),
        field("task", &C::task, "a made-up task instead of files; its samples are training.context ids long"),
        field("task_items", &C::task_items, "task: samples to train on, again and again; 0 = always new ones",
              {.min = 0, .max = 1 << 30}),
        field("task_validation_items", &C::task_validation_items, "task: samples to validate on",
              {.min = 1, .max = 1 << 30}),
    };
  }
};

struct TrainingConfig {
  TokenizerKind tokenizer = TokenizerKind::byte;
  DataConfig data = {};
  std::int64_t batch_size = 8;
  std::int64_t accumulation = 1;
  std::int64_t context = 256;
  std::int64_t steps = 1000;
  double learning_rate = 1e-3;
  double min_learning_rate = 0;
  ScheduleShape schedule = ScheduleShape::cosine;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;
  double cooldown_fraction = 0.2;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double grad_clip = 1;
  std::int64_t eval_every = 250;
  std::int64_t eval_batches = 20;
  std::int64_t save_every = 250;
  std::int64_t keep_checkpoints = 2;
  std::int64_t max_bad_steps = 10;
  double progress_smoothing = 0.9;
  TrainingDType dtype = TrainingDType::f32;
  std::int64_t seed = 42;
  bool faithful = false;

  static constexpr auto fields() {
    using C = TrainingConfig;
    constexpr std::int64_t many = std::int64_t{1} << 40;
    return std::tuple{
        field("tokenizer", &C::tokenizer, "what a token is"),
        field("data", &C::data, "how the data is read"),
        field("batch_size", &C::batch_size, "sequences per forward pass", {.min = 1, .max = 1 << 20}),
        field("accumulation", &C::accumulation, "forward passes per update", {.min = 1, .max = 1 << 20}),
        field("context", &C::context, "tokens of a sequence", {.min = 1, .max = 1 << 30}),
        field("steps", &C::steps, "updates in all", {.min = 1, .max = many}),
        field("learning_rate", &C::learning_rate, "its peak", {.min = 0, .max = 1e3, .above_min = true}),
        field("min_learning_rate", &C::min_learning_rate, "where the schedule ends", {.min = 0, .max = 1e3}),
        field("schedule", &C::schedule, "the way from the peak to the minimum; wsd = stays, then falls in a line"),
        field("warmup_steps", &C::warmup_steps, "updates that rise to the peak; at most half of decay_steps",
              {.min = 0, .max = many}),
        field("decay_steps", &C::decay_steps, "the update at which the minimum is reached; 0 = steps",
              {.min = 0, .max = many}),
        field("cooldown_fraction", &C::cooldown_fraction, "wsd: share of decay_steps that falls", {.min = 0, .max = 1}),
        field("weight_decay", &C::weight_decay, "of AdamW, on matrices", {.min = 0, .max = 1e3}),
        field("beta1", &C::beta1, "AdamW's memory of gradients", {.min = 0, .max = 1, .below_max = true}),
        field("beta2", &C::beta2, "AdamW's memory of squared gradients", {.min = 0, .max = 1, .below_max = true}),
        field("epsilon", &C::epsilon, "AdamW's guard against division by 0", {.min = 0, .max = 1, .above_min = true}),
        field("grad_clip", &C::grad_clip, "largest norm of all gradients together; 0 = no clipping",
              {.min = 0, .max = 1e9}),
        field("eval_every", &C::eval_every, "updates between evaluations; 0 = at the end only",
              {.min = 0, .max = many}),
        field("eval_batches", &C::eval_batches, "batches of an evaluation", {.min = 1, .max = many}),
        field("save_every", &C::save_every, "updates between checkpoints; 0 = at the end only",
              {.min = 0, .max = many}),
        field("keep_checkpoints", &C::keep_checkpoints, "newest checkpoints that stay", {.min = 1, .max = 1 << 20}),
        field("max_bad_steps", &C::max_bad_steps, "updates in a row with NaN or infinity before giving up",
              {.min = 1, .max = 1 << 20}),
        field("progress_smoothing", &C::progress_smoothing, "weight of the past in the loss shown while training",
              {.min = 0, .max = 1, .below_max = true}),
        field("dtype", &C::dtype, "of products; weights and moments stay f32"),
        field("seed", &C::seed, "of everything random", {.min = 0}),
        field("faithful", &C::faithful,
              "the original HALO-S trainer: decay on all tensors, leftover batches divided by the full count"),
    };
  }
  /// Rule between fields: min_learning_rate <= learning_rate.
  void validate(std::string_view path) const;

  /// The schedule with its rules behind 0 applied.
  Schedule make_schedule() const;
};

/// What a preset or a file for `train --config` describes: {"about": text, "model": {…}, "training": {…}}.
struct RunConfig {
  std::string about;
  ModelConfig model;
  TrainingConfig training;

  static constexpr auto fields() {
    return std::tuple{field("about", &RunConfig::about, "one sentence for lists"),
                      field("model", &RunConfig::model, "the model"),
                      field("training", &RunConfig::training, "how it is trained")};
  }
  /// The context must fit the model.
  void validate(std::string_view path) const;
};

/// Applies "key=value" to the document of a RunConfig. The key's first part may be model or training; without it the
/// key's section is found by its name: mixer.local_window=32, steps=100. Throws UsageError.
void apply_run_override(Json& document, std::string_view assignment);

/// The configuration of a preset (models/presets.h) after `overrides`. Throws UsageError.
RunConfig preset_config(std::string_view name, std::span<const std::string> overrides = {});
/// The same for a file.
RunConfig load_run_config(const std::string& path, std::span<const std::string> overrides = {});

}  // namespace sq
