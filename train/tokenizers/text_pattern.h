// train/tokenizers/text_pattern.h: cutting a text into pieces with a regular expression (PCRE2).
#pragma once

#include <functional>
#include <memory>
#include <string_view>

namespace sq {

/// A compiled pattern: Perl's syntax with Unicode classes. It does not change, so several threads may use one.
class TextPattern {
 public:
  /// Throws UsageError with the place and the reason when the pattern is not one.
  explicit TextPattern(std::string_view pattern);

  /// Calls `use` with every match, from left to right, and with what lies between matches, so that all calls together
  /// get the whole text. Bytes that are not UTF-8 match nothing; matches end before them. Throws Error when PCRE2
  /// gives up.
  void cut(std::string_view text, const std::function<void(std::string_view piece)>& use) const;

 private:
  std::shared_ptr<const void> code_;
};

}  // namespace sq
