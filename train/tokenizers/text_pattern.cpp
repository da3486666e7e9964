#include "train/tokenizers/text_pattern.h"

#include "tensor/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8  // PCRE2 asks for it: texts are bytes
#include <array>
#include <pcre2.h>

namespace sq {
namespace {

std::string reason(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

PCRE2_SPTR bytes_of(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data() ? text.data() : ""); }

}  // namespace

TextPattern::TextPattern(std::string_view pattern) {
  int error = 0;
  PCRE2_SIZE place = 0;
  pcre2_code* code = pcre2_compile(bytes_of(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF,
                                   &error, &place, nullptr);
  require_input(code != nullptr, "pattern", "'{}' is no regular expression: {} at byte {}", pattern, reason(error),
                place);
  code_ = {code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); }};
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it cannot, matching interprets the pattern instead
}

void TextPattern::cut(std::string_view text, const std::function<void(std::string_view)>& use) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
  require(match != nullptr, "pattern", "no memory for matching");
  std::size_t done = 0;
  while (done < text.size()) {
    const int found = pcre2_match(code, bytes_of(text), text.size(), done, PCRE2_NOTEMPTY, match.get(), nullptr);
    if (found == PCRE2_ERROR_NOMATCH) break;
    require(found > 0, "pattern", "matching failed at byte {}: {}", done, reason(found));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.get());
    if (range[0] > done) use(text.substr(done, range[0] - done));
    use(text.substr(range[0], range[1] - range[0]));
    done = range[1];
  }
  if (done < text.size()) use(text.substr(done));
}

}  // namespace sq
