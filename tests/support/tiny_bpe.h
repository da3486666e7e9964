// tests/support/tiny_bpe.h: a small byte-level vocabulary.
#pragma once

#include "train/tokenizers/bpe_tokenizer.h"

namespace sq::test {

/// 0 … 255: the bytes in order; 256: "th", "the", " the", "in", "ing", " s", "  "; 263: <|end|>.
inline BpeVocabulary tiny_bpe() {
  BpeVocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte)
    vocabulary.tokens.push_back(bpe_written(std::string(1, static_cast<char>(static_cast<unsigned char>(byte)))));
  vocabulary.merges = {{"t", "h"}, {"th", "e"}, {"Ġ", "the"}, {"i", "n"}, {"in", "g"}, {"Ġ", "s"}, {"Ġ", "Ġ"}};
  for (const auto& [left, right] : vocabulary.merges) vocabulary.tokens.push_back(left + right);
  vocabulary.special = {static_cast<std::int64_t>(vocabulary.tokens.size())};
  vocabulary.tokens.emplace_back("<|end|>");
  return vocabulary;
}

}  // namespace sq::test
