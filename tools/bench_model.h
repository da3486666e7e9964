// tools/bench_model.h: the model that a benchmark builds from a preset, and the work it is given.
#pragma once

#include "models/language_model.h"
#include "tools/bench.h"
#include "train/optimizer.h"
#include "train/training_config.h"

namespace sq::cli {

struct BenchModelOptions {
  BenchOptions bench;
  std::string preset = "nanogpt-cpu";
  std::vector<std::string> settings;
  std::int64_t vocab_size = 65;  // where the preset leaves it to the tokenizer: that of tiny Shakespeare
  std::int64_t batch_size = 0;   // 0: the preset's
};

/// All but those of `bench`.
void add_model_flags(CLI::App& command, BenchModelOptions& options);
/// The preset with its settings, checked, vocab_size filled in.
RunConfig bench_config(const BenchModelOptions& options);
/// i64 [batch,tokens], uniform over the vocabulary; other ones for another stream.
Tensor random_ids(std::int64_t batch, std::int64_t tokens, std::int64_t vocab_size, std::uint64_t stream = 0);

/// A model in training, on one batch of random tokens.
class TrainingBench {
 public:
  /// `context` tokens of a sequence; 0 = the preset's. Takes a first step and checks its loss.
  TrainingBench(const BenchModelOptions& options, std::int64_t context);

  /// Forward, backward, clipping and AdamW, as phases of a profile.
  void step();

  std::int64_t batch, context;
  LanguageModel model;

 private:
  TrainingBench(const BenchModelOptions& options, std::int64_t context, const RunConfig& config);

  DType dtype_;  // of products
  AdamW optimizer_;
  Tensor ids_, targets_;
  double loss_ = 0;
};

/// A model that has read `prompt` random tokens and writes on.
class DecodingBench {
 public:
  /// With --dtype bf16 or f16 the matrices are held so. Throws UsageError when the model cannot read prompt + tokens
  /// tokens. `name` is the command's.
  DecodingBench(std::string_view name, const BenchModelOptions& options, std::int64_t prompt, std::int64_t tokens);

  /// Back to the end of the prompt.
  void start_again();
  /// One token more in every row, as a phase of a profile.
  void step();
  /// One step at least: every weight is read once, but for an untied table of embeddings.
  Work work() const;

  std::int64_t batch;
  LanguageModel model;
  std::unique_ptr<ModelState> state;

 private:
  Tensor prompt_, next_;
};

}  // namespace sq::cli
