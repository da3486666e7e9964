// train/tokenizers/utf8.h: reading and writing UTF-8, one code point at a time, with every ill-formed byte noticed.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sq {

enum class Utf8Status {
  valid,       ///< a whole code point
  invalid,     ///< bytes that no continuation could make valid
  incomplete,  ///< the text ends inside a sequence that is well formed so far
};

/// What stands at one place of a text. `length` counts bytes; an invalid step covers the longest start of a well-formed
/// sequence (at least one byte), which Unicode recommends to replace by a single U+FFFD.
struct Utf8Step {
  Utf8Status status = Utf8Status::invalid;
  std::size_t length = 1;
  char32_t code_point = 0;
};

/// Reads the code point at byte `at` < text.size(). Well-formed sequences are those of the Unicode Standard, table 3-7:
/// no surrogates, nothing above U+10FFFF, no overlong forms.
Utf8Step read_utf8(std::string_view text, std::size_t at);

/// Byte offset of the first ill-formed or unfinished sequence, or nothing when all of `text` is UTF-8.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

void append_utf8(std::string& out, char32_t code_point);
std::string to_utf8(std::u32string_view code_points);
/// The code points of `text`. Throws UsageError naming `where` and the first byte that is not UTF-8.
std::u32string to_code_points(std::string_view text, std::string_view where);

/// White space in the sense of the word tokenizer and of line trimming: U+0009–000D, 001C–0020, 0085, 00A0, 1680,
/// 2000–200A, 2028, 2029, 202F, 205F, 3000.
bool is_unicode_space(char32_t code_point);
/// `text` without white space at either end. Ill-formed bytes count as no space.
std::string_view trim_unicode(std::string_view text);

/// A character for an error message: `'é' (U+00E9)`, or `U+0007` when it cannot be printed.
std::string describe_code_point(char32_t code_point);

}  // namespace sq
