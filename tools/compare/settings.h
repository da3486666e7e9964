// tools/compare/settings.h: what `subquad compare` was asked for, and the models that this means.
#pragma once

#include "models/config.h"
#include "tools/cli.h"
#include "train/data/tasks.h"

#include <vector>

namespace sq::compare {

using cli::Json;

struct Settings {
  cli::Common common;
  std::vector<std::string> mixers;  // a name of the registry, or names with + between: the layers take turns
  std::vector<std::int64_t> lengths{64, 256, 1024, 4096};
  std::int64_t hidden_size = 256, layers = 2, heads = 4, batch_size = 1, vocab_size = 256;
  std::vector<std::string> changes;  // MIXER.key=value, or model.key=value for the shell

  std::int64_t runs = 5, decode_tokens = 16;
  double seconds = 20;  // a measurement stops repeating after so long

  std::int64_t train_steps = 0, task_steps = 0;
  std::int64_t train_batch_size = 8, task_batch_size = 32, context = 128;
  double learning_rate = 2e-3;
  std::vector<std::string> data, tasks;

  /// Fills in what follows from what was given and checks the rest. Throws UsageError.
  void complete();
  /// Everything that a result depends on, for refusing to mix results: not which mixers, lengths and tasks.
  Json to_json() const;
};

/// Something to compare: the same shell around one mixer, or around several in turn.
struct Contender {
  std::string label;  // as it was asked for
  Json mixer;         // as in a model's configuration
  std::int64_t feed_forward_width = 0;
  std::int64_t parameters = 0;  // of the whole model
  std::int64_t target = 0;      // what it should have: a layer's 4·C² for the mixer, and the usual feed-forward

  /// (parameters - target) / target.
  double excess() const { return static_cast<double>(parameters - target) / static_cast<double>(target); }
};

/// One contender for each of settings.mixers. Options `num_heads` and `num_kv_heads`, where a mixer has them, are
/// settings.heads; the feed-forward is as wide as makes the parameters meet the target. Throws UsageError that names
/// the mixer.
std::vector<Contender> make_contenders(const Settings& settings);

/// The model of a contender for sequences of `tokens` tokens.
ModelConfig model_config(const Settings& settings, const Contender& contender, std::int64_t tokens,
                         std::int64_t vocab_size);

/// "mqar:pairs=8,length=64": a task, its options and its length (64 unless given).
struct TaskSpec {
  std::string label;
  TaskConfig task = {};
  std::int64_t length = 64;
};

/// Throws UsageError naming what is wrong.
TaskSpec parse_task(const std::string& text);

}  // namespace sq::compare
