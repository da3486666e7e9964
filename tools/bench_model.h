// tools/bench_model.h: the model that a benchmark builds from a preset.
#pragma once

#include "models/language_model.h"
#include "tools/bench.h"
#include "train/training_config.h"

namespace sq::cli {

struct BenchModelOptions {
  BenchOptions bench;
  std::string preset = "nanogpt-cpu";
  std::vector<std::string> settings;
  std::int64_t vocab_size = 65;  // where the preset leaves it to the tokenizer: that of tiny Shakespeare
  std::int64_t batch_size = 0;   // 0: the preset's
};

void add_model_flags(CLI::App& command, BenchModelOptions& options);
/// The preset with its settings, checked, vocab_size filled in.
RunConfig bench_config(const BenchModelOptions& options);
/// i64 [batch,tokens], uniform over the vocabulary.
Tensor random_ids(std::int64_t batch, std::int64_t tokens, std::int64_t vocab_size);

}  // namespace sq::cli
