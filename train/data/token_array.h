// train/data/token_array.h: a long text as ids, in as few bytes as its vocabulary needs.
#pragma once

#include "train/data/dataset.h"
#include "train/tokenizers/tokenizer.h"

#include <string_view>
#include <utility>
#include <vector>

namespace sq {

/// Ids in one, two or four bytes each, whichever the largest needs: a byte text takes its own size and not eight times
/// as much.
class TokenArray {
 public:
  /// Throws UsageError when an id is negative or above 2³¹-1.
  void append(std::span<const std::int64_t> ids);
  std::int64_t size() const { return size_; }
  /// Copies ids begin … begin+out.size()-1. Throws Error when they reach outside the array.
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;
  std::int64_t bytes_per_token() const { return width_; }

 private:
  void widen(int width);
  template <class T>
  void append_as(std::span<const std::int64_t> ids);

  std::vector<unsigned char> bytes_;
  std::int64_t size_ = 0;
  int width_ = 1;  // bytes per id
};

/// A part of an array that several data sets may share.
class TokenSpan {
 public:
  explicit TokenSpan(std::shared_ptr<const TokenArray> tokens);
  std::int64_t size() const { return count_; }
  /// Throws Error when the range reaches outside.
  TokenSpan part(std::int64_t begin, std::int64_t count) const;
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;
  /// From the ids alone, whatever their width.
  std::string fingerprint() const;

 private:
  std::shared_ptr<const TokenArray> tokens_;
  std::int64_t begin_ = 0, count_ = 0;
};

/// {training, validation}: the first part and the last one (see training_count).
std::pair<TokenSpan, TokenSpan> split_tokens(const TokenSpan& tokens, double validation_share = kValidationShare);

/// Appends the ids of a text of any length, encoding it piece by piece at line ends, so that the ids are never held in
/// eight bytes each. Throws UsageError naming `source` and the line when the tokenizer cannot express a character.
void append_text(TokenArray& tokens, const Tokenizer& tokenizer, std::string_view text, std::string_view source);

/// The ids of one text.
TokenSpan tokens_of(const Tokenizer& tokenizer, std::string_view text, std::string_view source = "text");

}  // namespace sq
