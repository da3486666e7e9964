// train/evaluate.h: how well a model predicts data that it is not trained on.
#pragma once

#include "nn/module.h"
#include "train/data/dataset.h"

#include <atomic>
#include <functional>
#include <optional>
#include <string>

namespace sq {

/// (ids i64[B,T], targets i64[B,T]) → the mean loss in nats over the targets that are not kIgnoreTarget, a scalar.
using LossFunction = std::function<Tensor(const Tensor& ids, const Tensor& targets)>;

/// (ids, targets) as above → how many targets that are not kIgnoreTarget are the likeliest token.
using RightAnswers = std::function<std::int64_t(const Tensor& ids, const Tensor& targets)>;

struct EvaluateOptions {
  std::int64_t batch_size = 8;
  /// Adds Evaluation::accuracy when set.
  RightAnswers right_answers = {};
  /// Mean over batches instead of over targets, as the original HALO-S does.
  bool mean_of_batches = false;
  /// When set and true, evaluation stops between two batches.
  const std::atomic<bool>* stop = nullptr;
};

struct Evaluation {
  double loss = 0;           // mean, in nats per target
  std::int64_t targets = 0;  // that counted
  /// Share of them that were the likeliest token; with EvaluateOptions::right_answers.
  std::optional<double> accuracy = {};
};

/// The mean loss over all items of `data`, in order, in evaluation mode and without recording. Afterwards the module's
/// mode and the default generator are as before, so that evaluating changes nothing about training. Nothing is returned
/// when `stop` came in between. Throws UsageError when no target counts.
std::optional<Evaluation> evaluate(Module& model, const LossFunction& loss, const Dataset& data,
                                   const EvaluateOptions& options = {});

/// exp(loss): as uncertain as a fair choice among so many tokens.
double perplexity(double loss);
/// Bits that the model needs for a byte of the text, loss · targets / (ln 2 · bytes): comparable between tokenizers.
/// `bytes` are those of the text that the targets stand for. Throws UsageError when there are none.
double bits_per_byte(const Evaluation& evaluation, std::int64_t bytes);

/// How a figure was measured; without it perplexities cannot be compared.
struct EvaluationProtocol {
  std::int64_t window = 0;     // ids that the model reads at once
  std::int64_t stride = 0;     // ids between the starts of two windows
  std::string unit = "token";  // what a target is: byte, character, word, …
  std::int64_t bytes = 0;      // of the text that the targets stand for; 0 = unknown
};

/// "loss 1.8832 nats per character, perplexity 6.574, 2.7168 bits per byte (111539 characters, window 256, stride 256)"
std::string describe(const Evaluation& evaluation, const EvaluationProtocol& protocol);

}  // namespace sq
