// tests/fuzz/tokenizer_input.h: what must hold for any bytes taken as a tokenizer file. Used by the fuzzer and, on a
// list of nasty inputs, by the ordinary tests.
#pragma once

#include "tensor/error.h"
#include "train/tokenizers/tokenizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <stdexcept>
#include <string_view>

namespace sq::fuzz {

/// A file is either refused with a UsageError or gives a tokenizer that survives being saved and read again.
inline void tokenizer_input(std::string_view bytes) {
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = parse_tokenizer(bytes, "input");
  } catch (const UsageError&) {
    return;
  }
  std::string text;
  for (std::int64_t id = -1; id <= std::min<std::int64_t>(tokenizer->vocab_size(), 1000); ++id)
    text += tokenizer->decode(std::span(&id, 1)) + " ";
  try {
    (void)tokenizer->encode(text);
  } catch (const UsageError&) {  // the blanks may be outside the vocabulary
  }
  const Json json = tokenizer->to_json();
  if (parse_tokenizer(json.dump(), "again")->fingerprint() != tokenizer->fingerprint())
    throw std::logic_error("a tokenizer changed by being saved");
}

}  // namespace sq::fuzz
