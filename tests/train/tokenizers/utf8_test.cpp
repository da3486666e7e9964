#include "train/tokenizers/utf8.h"

#include "tensor/error.h"

#include <doctest/doctest.h>

using namespace sq;

TEST_CASE("every code point survives UTF-8, and nothing else is valid") {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = read_utf8(text, 0);
    if (c >= 0xD800 && c <= 0xDFFF) {
      REQUIRE(step.status == Utf8Status::invalid);
      continue;
    }
    REQUIRE(step.status == Utf8Status::valid);
    REQUIRE(step.code_point == c);
    REQUIRE(step.length == text.size());
    // Any shorter start of it is unfinished, not wrong.
    for (std::size_t n = 1; n < text.size(); ++n)
      REQUIRE(read_utf8(text.substr(0, n), 0).status == Utf8Status::incomplete);
  }
}

TEST_CASE("ill-formed UTF-8 is found where it starts") {
  CHECK_FALSE(find_invalid_utf8(""));
  CHECK_FALSE(find_invalid_utf8("plain ASCII and na\u00efve \U0001F600 text"));
  CHECK(find_invalid_utf8("12345678\x80") == 8);
  CHECK(find_invalid_utf8("abc\xC0\x80") == 3);        // overlong
  CHECK(find_invalid_utf8("\xE0\x80\x80") == 0);       // overlong
  CHECK(find_invalid_utf8("x\xED\xA0\x80") == 1);      // surrogate
  CHECK(find_invalid_utf8("x\xF4\x90\x80\x80") == 1);  // above U+10FFFF
  CHECK(find_invalid_utf8("x\xF5\x80\x80\x80") == 1);
  CHECK(find_invalid_utf8("01234567\u20ac\xE2\x82") == 11);  // cut off
  // The Unicode Standard replaces each longest start of a well-formed sequence by one U+FFFD (table 3-8).
  const std::string example = "\xF1\x80\x80\xE1\x80\xC2";
  CHECK(read_utf8(example, 0).length == 3);
  CHECK(read_utf8(example, 3).length == 2);
  CHECK(read_utf8(example, 5).status == Utf8Status::incomplete);
}

TEST_CASE("trimming knows Unicode white space and stops at anything else") {
  CHECK(trim_unicode("") == "");
  CHECK(trim_unicode(" \t\u3000\u00a0\r\n") == "");
  CHECK(trim_unicode("\u2003 a b \u0085\x1f") == "a b");
  CHECK(trim_unicode("\u200b a") == "\u200b a");  // zero width space is none
  CHECK(trim_unicode(" \x80 ") == "\x80");
  CHECK(trim_unicode("\xE3\x80 ") == "\xE3\x80");
}

TEST_CASE("characters are named so that a reader finds them") {
  CHECK(describe_code_point(U'\u00e9') == "'\u00e9' (U+00E9)");
  CHECK(describe_code_point(U'\a') == "U+0007");
  CHECK(describe_code_point(U'\u3000') == "U+3000");
  CHECK_THROWS_WITH_AS((void)to_code_points("ab\xFF", "here"), "here: the text is not valid UTF-8 at byte 2 (0xFF)",
                       UsageError);
}
