// train/training_data.h: from a training configuration and files to a tokenizer, batches and validation data.
#pragma once

#include "train/data/batch.h"
#include "train/tokenizers/tokenizer.h"
#include "train/training_config.h"

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace sq {

struct TrainingData {
  std::shared_ptr<const Tokenizer> tokenizer;  // none for made-up tasks
  std::int64_t vocab_size = 0;
  std::unique_ptr<BatchSource> batches;
  std::shared_ptr<const Dataset> validation;        // some windows, for evaluations while training; may be absent
  std::shared_ptr<const Dataset> whole_validation;  // all of them, for the figure at the end
  bool asks = false;                  // targets are answers, whose share of right ones can be counted (train/answers.h)
  std::int64_t validation_bytes = 0;  // of the text that whole_validation's targets stand for; 0 = unknown
  std::string unit = "token";         // what a target is: byte, character, word, answer
  std::vector<std::string> remarks;   // for the user: what was skipped, what is missing
};

/// What one token of this tokenizer is, for an evaluation's protocol: "byte", "character" or "word".
std::string unit_of(const Tokenizer& tokenizer);

/// Reads `files`, or the embedded corpus when there are none, as `training.data` says, or makes up samples of its task.
/// The tokenizer is made from the data, or `tokenizer` when given (going on with an earlier run). Throws UsageError for
/// files that are missing, empty, binary or too short for one window of training.context tokens, and for settings that
/// contradict each other.
TrainingData make_training_data(const TrainingConfig& training, std::span<const std::filesystem::path> files,
                                std::shared_ptr<const Tokenizer> tokenizer = nullptr);

}  // namespace sq
