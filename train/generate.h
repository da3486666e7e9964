// train/generate.h: continuing prompts, token by token.
//
// Each step reads the newest token with the model's state (decoding, docs/7-decoding.md), draws the next token from
// its logits and appends it. A model whose result depends on the total length has no state: it reads the whole context
// again at each step.
//
// When a row is full (it holds max_tokens() tokens) and goes on, the last half of its tokens is kept and read again as
// a new prefix. Each token is thus read twice at most, on average, so the cost per token stays bounded. A prompt longer
// than max_tokens() is cut to its last max_tokens() tokens. A model without state keeps the last max_tokens() tokens.
#pragma once

#include "models/language_model.h"
#include "train/sampler.h"

#include <functional>

namespace sq {

enum class WhenFull { slide, stop };

struct GenerateOptions {
  std::int64_t max_new_tokens = 100;
  SamplingOptions sampling;
  std::uint64_t seed = 42;
  std::vector<std::int64_t> stop_tokens;  // a row ends before such a token
  WhenFull when_full = WhenFull::slide;   // stop: a row ends when the model can read no more
};

/// Told of each new token: the row and the token. A row ends when it returns false.
using TokenSink = std::function<bool(std::size_t row, std::int64_t token)>;

struct Generated {
  std::vector<std::vector<std::int64_t>> tokens;  // new ones only, by row
  std::int64_t slides = 0;                        // how often a full context was shortened
};

/// Continues every prompt (lengths may differ; rows do not influence each other). The number drawn for row r and its
/// n-th new token depends on (seed, r, n) only. The model is in evaluation mode meanwhile. Throws UsageError for an
/// empty prompt, a negative max_new_tokens or wrong sampling options; Error for ids outside the vocabulary.
Generated generate(LanguageModel& model, const std::vector<std::vector<std::int64_t>>& prompts,
                   const GenerateOptions& options, const TokenSink& sink = {});

}  // namespace sq
