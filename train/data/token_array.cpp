#include "train/data/token_array.h"

#include "tensor/error.h"
#include "tensor/file.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace sq {
namespace {

constexpr std::size_t kPiece = 1 << 20;  // bytes of text encoded at once

/// Calls f.operator()<T>() with the unsigned type of `width` bytes.
template <class F>
void visit_width(int width, F&& f) {
  if (width == 1)
    f.template operator()<std::uint8_t>();
  else if (width == 2)
    f.template operator()<std::uint16_t>();
  else
    f.template operator()<std::uint32_t>();
}

int width_of(std::int64_t id) { return id <= 0xFF ? 1 : id <= 0xFFFF ? 2 : 4; }

}  // namespace

template <class T>
void TokenArray::append_as(std::span<const std::int64_t> ids) {
  const std::size_t start = bytes_.size();
  bytes_.resize(start + ids.size() * sizeof(T));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const T value = static_cast<T>(ids[i]);
    std::memcpy(bytes_.data() + start + i * sizeof(T), &value, sizeof(T));
  }
}

void TokenArray::append(std::span<const std::int64_t> ids) {
  if (ids.empty()) return;
  const auto [least, largest] = std::minmax_element(ids.begin(), ids.end());
  require_input(*least >= 0 && *largest <= INT32_MAX, "tokens", "id {} is outside 0 … {}",
                *least < 0 ? *least : *largest, INT32_MAX);
  if (width_of(*largest) > width_) widen(width_of(*largest));
  visit_width(width_, [&]<class T>() { append_as<T>(ids); });
  size_ += static_cast<std::int64_t>(ids.size());
}

void TokenArray::widen(int width) {
  std::vector<std::int64_t> ids(static_cast<std::size_t>(size_));
  copy(0, ids);
  bytes_.clear();
  width_ = width;
  visit_width(width_, [&]<class T>() { append_as<T>(ids); });
}

void TokenArray::copy(std::int64_t begin, std::span<std::int64_t> out) const {
  require(begin >= 0 && begin <= size_ && static_cast<std::int64_t>(out.size()) <= size_ - begin, "tokens",
          "ids {} to {} reach outside an array of {}", begin, begin + static_cast<std::int64_t>(out.size()) - 1, size_);
  visit_width(width_, [&]<class T>() {
    const unsigned char* from = bytes_.data() + static_cast<std::size_t>(begin) * sizeof(T);
    for (std::size_t i = 0; i < out.size(); ++i) {
      T value;
      std::memcpy(&value, from + i * sizeof(T), sizeof(T));
      out[i] = static_cast<std::int64_t>(value);
    }
  });
}

TokenSpan::TokenSpan(std::shared_ptr<const TokenArray> tokens) : tokens_(std::move(tokens)), count_(tokens_->size()) {}

TokenSpan TokenSpan::part(std::int64_t begin, std::int64_t count) const {
  require(begin >= 0 && count >= 0 && begin <= count_ && count <= count_ - begin, "tokens",
          "{} ids from {} reach outside a part of {}", count, begin, count_);
  TokenSpan result = *this;
  result.begin_ += begin;
  result.count_ = count;
  return result;
}

void TokenSpan::copy(std::int64_t begin, std::span<std::int64_t> out) const {
  require(begin >= 0 && begin <= count_ && static_cast<std::int64_t>(out.size()) <= count_ - begin, "tokens",
          "ids {} to {} reach outside a part of {}", begin, begin + static_cast<std::int64_t>(out.size()) - 1, count_);
  tokens_->copy(begin_ + begin, out);
}

std::string TokenSpan::fingerprint() const {
  Checksum checksum;
  std::array<std::int64_t, 4096> ids{};
  for (std::int64_t begin = 0; begin < count_; begin += std::ssize(ids)) {
    const auto piece = std::span(ids).first(static_cast<std::size_t>(std::min(count_ - begin, std::ssize(ids))));
    copy(begin, piece);
    checksum.add(piece.data(), piece.size_bytes());
  }
  return fmt::format("tokens-{}-{:016x}", count_, checksum.value());
}

std::pair<TokenSpan, TokenSpan> split_tokens(const TokenSpan& tokens, double validation_share) {
  const std::int64_t training = training_count(tokens.size(), validation_share);
  return {tokens.part(0, training), tokens.part(training, tokens.size() - training)};
}

void append_text(TokenArray& tokens, const Tokenizer& tokenizer, std::string_view text, std::string_view source) {
  std::int64_t line = 1;
  for (std::size_t begin = 0; begin < text.size();) {
    // A line end is a word end and a character end, so cutting behind it changes no id.
    std::size_t end = text.find('\n', std::min(begin + kPiece, text.size()));
    end = end == std::string_view::npos ? text.size() : end + 1;
    const std::string_view piece = text.substr(begin, end - begin);
    try {
      tokens.append(tokenizer.encode(piece));
    } catch (const UsageError& error) {
      // Look again, line by line, to say where.
      for (std::size_t at = 0; at < piece.size(); ++line) {
        const std::size_t stop = std::min(piece.find('\n', at), piece.size() - 1) + 1;
        try {
          (void)tokenizer.encode(piece.substr(at, stop - at));
        } catch (const UsageError& precise) {
          throw UsageError(fmt::format("{}: line {}: {}", source, line, precise.what()));
        }
        at = stop;
      }
      throw UsageError(fmt::format("{}: {}", source, error.what()));
    }
    line += std::count(piece.begin(), piece.end(), '\n');
    begin = end;
  }
}

TokenSpan tokens_of(const Tokenizer& tokenizer, std::string_view text, std::string_view source) {
  auto tokens = std::make_shared<TokenArray>();
  append_text(*tokens, tokenizer, text, source);
  return TokenSpan(std::move(tokens));
}

}  // namespace sq
