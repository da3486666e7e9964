// train/generate_text.h: continuing prompts that are text, shown as they grow.
#pragma once

#include "train/generate.h"
#include "train/tokenizers/tokenizer.h"

#include <string>

namespace sq {

struct TextOptions {
  GenerateOptions generate;
  std::vector<std::string> stop;  // a row ends before the first of these texts that its continuation comes to hold
};

struct GeneratedText {
  std::string continuation;  // without the stop text
  std::int64_t tokens = 0;   // new tokens, those of the stop text included
  bool stopped = false;      // by a stop text
};

struct GeneratedTexts {
  std::vector<GeneratedText> rows;
  std::int64_t slides = 0;  // how often a full context was shortened
};

/// Told of text as soon as it is certain: whole characters that cannot be the beginning of a stop text.
using TextSink = std::function<void(std::size_t row, std::string_view piece)>;

/// Encodes, continues and decodes. Throws UsageError for an empty prompt or stop text and for characters that the
/// vocabulary lacks.
GeneratedTexts generate_text(LanguageModel& model, const Tokenizer& tokenizer, const std::vector<std::string>& prompts,
                             const TextOptions& options, const TextSink& sink = {});

}  // namespace sq
