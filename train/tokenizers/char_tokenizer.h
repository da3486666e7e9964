// train/tokenizers/char_tokenizer.h: one id for each character (Unicode code point) of an alphabet.
#pragma once

#include "train/tokenizers/tokenizer.h"

namespace sq {

/// What a character outside the alphabet does.
enum class UnknownCharacters {
  error,    ///< encode throws; the rule for models trained here
  first_id  ///< it becomes id 0, as in the original HALO-S, where "Hello" over a…z reads "aello"
};

/// The id of a character is its place in the alphabet. A character that stands there twice encodes to its last place,
/// and both places count and decode to it; only `first_id` alphabets may hold one or be empty.
class CharTokenizer final : public Tokenizer {
 public:
  /// Throws UsageError when the alphabet is not UTF-8, or, with `error`, empty or with a repeated character.
  explicit CharTokenizer(std::string_view alphabet, UnknownCharacters unknown = UnknownCharacters::error);
  /// The 256 code points U+0000…U+00FF, the default of the original.
  static CharTokenizer latin1(UnknownCharacters unknown = UnknownCharacters::error);
  /// The distinct characters of the documents in code-point order. Throws UsageError when there are none.
  static CharTokenizer from_corpus(std::span<const std::string> documents);
  /// {"kind": "char", "alphabet": "…", "unknown": "error" or "first_id"}
  static CharTokenizer from_json(const Json& json, std::string_view where);

  std::string_view kind() const override { return "char"; }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(alphabet_.size()); }
  /// Throws UsageError naming the first character that is unknown and its number in the text, counted from 1.
  std::vector<std::int64_t> encode(std::string_view text) const override;
  Json to_json() const override;

 protected:
  void append_piece(std::int64_t id, bool first, std::string& out) const override;

 private:
  CharTokenizer(std::u32string alphabet, UnknownCharacters unknown);

  std::u32string alphabet_;
  std::vector<std::int32_t> ids_;  // by code point, up to the largest of the alphabet; -1 where there is none
  UnknownCharacters unknown_;
};

}  // namespace sq
