// train/data/corpus.h: the documents that the user's files hold, in memory, for data that fits there.
#pragma once

#include "train/data/document_reader.h"

#include <span>

namespace sq {

struct Corpus {
  std::vector<std::string> documents;
  std::vector<std::string> names;  ///< where each comes from: a file, or a file and a line
  SkipReport skipped;
  std::int64_t bytes() const;
};

/// A text file is one document (read_text_file); a .jsonl file gives one for each line whose text field holds a text.
/// Throws UsageError when a file cannot be used or gives no document.
Corpus read_corpus(std::span<const std::filesystem::path> files, std::string_view text_field = "text");

/// The embedded corpus (default_corpus) as one document.
Corpus embedded_corpus();

/// The ids of all documents one behind the other, each followed by `separator` if one is given. Throws UsageError
/// naming document and line when the tokenizer cannot express a character.
TokenSpan corpus_tokens(const Corpus& corpus, const Tokenizer& tokenizer,
                        std::optional<std::int64_t> separator = std::nullopt);

}  // namespace sq
