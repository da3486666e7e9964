// tests/fuzz/jsonl_input.h: what must hold for any bytes taken as a JSONL file.
#pragma once

#include "train/data/jsonl.h"
#include "train/tokenizers/byte_tokenizer.h"
#include "train/tokenizers/utf8.h"

#include <stdexcept>

namespace sq::fuzz {

/// Every line gives a text that is UTF-8 or a reason why not; the lines and their ends are all of the file.
inline void jsonl_input(std::string_view bytes) {
  LineReader lines(bytes);
  std::string_view line;
  std::int64_t before = 0;
  while (lines.next(line)) {
    if (lines.offset() <= before) throw std::logic_error("a line without any byte");
    before = lines.offset();
    const std::string_view trimmed = trim_unicode(line);
    const auto parsed = parse_jsonl_line(trimmed, "text");
    if (const auto* text = std::get_if<std::string>(&parsed); text && find_invalid_utf8(*text))
      throw std::logic_error("a text that is not UTF-8");
    (void)encode_jsonl_line(trimmed, "text", ByteTokenizer());
  }
  if (before != std::ssize(bytes)) throw std::logic_error("bytes were left over");
}

}  // namespace sq::fuzz
