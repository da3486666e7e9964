#include "train/tokenizers/utf8.h"

#include "tensor/error.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace sq {
namespace {

unsigned byte_at(std::string_view text, std::size_t at) { return static_cast<unsigned char>(text[at]); }

/// Sequence length that a first byte announces, and the range of its second byte, which excludes overlong forms (E0,
/// F0), surrogates (ED) and values above U+10FFFF (F4).
struct Lead {
  std::size_t length = 0;  // 0: not a first byte
  unsigned low = 0x80, high = 0xBF;
};

Lead lead_of(unsigned byte) {
  if (byte < 0x80) return {1};
  if (byte >= 0xC2 && byte <= 0xDF) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {};
}

}  // namespace

Utf8Step read_utf8(std::string_view text, std::size_t at) {
  const unsigned first = byte_at(text, at);
  const Lead lead = lead_of(first);
  if (lead.length == 0) return {Utf8Status::invalid, 1, 0};
  if (lead.length == 1) return {Utf8Status::valid, 1, first};
  char32_t value = first & (0x7Fu >> lead.length);
  for (std::size_t i = 1; i < lead.length; ++i) {
    if (at + i == text.size()) return {Utf8Status::incomplete, i, 0};
    const unsigned byte = byte_at(text, at + i);
    const unsigned low = i == 1 ? lead.low : 0x80, high = i == 1 ? lead.high : 0xBF;
    if (byte < low || byte > high) return {Utf8Status::invalid, i, 0};
    value = value << 6 | (byte & 0x3F);
  }
  return {Utf8Status::valid, lead.length, value};
}

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    // Eight ASCII bytes at once: none has its top bit set.
    std::uint64_t word = 0;
    while (at + sizeof(word) <= text.size()) {
      std::memcpy(&word, text.data() + at, sizeof(word));
      if ((word & 0x8080808080808080u) != 0) break;
      at += sizeof(word);
    }
    if (at == text.size()) break;
    const Utf8Step step = read_utf8(text, at);
    if (step.status != Utf8Status::valid) return at;
    at += step.length;
  }
  return std::nullopt;
}

void append_utf8(std::string& out, char32_t c) {
  const auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | (c >> shift & 0x3F))); };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xC0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string to_utf8(std::u32string_view code_points) {
  std::string out;
  for (const char32_t c : code_points) append_utf8(out, c);
  return out;
}

std::u32string to_code_points(std::string_view text, std::string_view where) {
  std::u32string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = read_utf8(text, at);
    require_input(step.status == Utf8Status::valid, where, "the text is not valid UTF-8 at byte {} (0x{:02X})", at,
                  byte_at(text, at));
    result.push_back(step.code_point);
    at += step.length;
  }
  return result;
}

bool is_unicode_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::string_view trim_unicode(std::string_view text) {
  const auto is_space = [](Utf8Step step) {
    return step.status == Utf8Status::valid && is_unicode_space(step.code_point);
  };
  std::size_t begin = 0, end = text.size();
  while (begin < end) {
    const Utf8Step step = read_utf8(text, begin);
    if (!is_space(step)) break;
    begin += step.length;
  }
  while (begin < end) {
    // The last code point starts at the last byte that is no continuation byte, at most three bytes back.
    std::size_t start = end - 1;
    while (start > begin && end - start < 4 && (byte_at(text, start) & 0xC0) == 0x80) --start;
    const Utf8Step step = read_utf8(text.substr(0, end), start);
    if (!is_space(step) || start + step.length != end) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::string describe_code_point(char32_t c) {
  const auto value = static_cast<std::uint32_t>(c);
  if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (is_unicode_space(c) && c != ' ')) return fmt::format("U+{:04X}", value);
  std::string character;
  append_utf8(character, c);
  return fmt::format("'{}' (U+{:04X})", character, value);
}

}  // namespace sq
