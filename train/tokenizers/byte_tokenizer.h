// train/tokenizers/byte_tokenizer.h: one id for each byte of the UTF-8 text, the default.
#pragma once

#include "train/tokenizers/tokenizer.h"

namespace sq {

/// ids 0…255. Knows every text, so nothing is ever unknown, and decode(encode(t)) = t for every UTF-8 text t.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr std::int64_t kVocabSize = 256;

  std::string_view kind() const override { return "byte"; }
  std::int64_t vocab_size() const override { return kVocabSize; }
  std::vector<std::int64_t> encode(std::string_view text) const override;
  Json to_json() const override;

 protected:
  void append_piece(std::int64_t id, bool first, std::string& out) const override;
};

}  // namespace sq
