#include "train/data/windows.h"

#include "tensor/error.h"

#include <algorithm>

namespace sq {
namespace {

/// ids[begin … begin+L-1] as x, ids[begin+1 … begin+L] as y.
void read_window(const TokenSpan& tokens, std::int64_t begin, ItemSpans item) {
  tokens.copy(begin, item.x);
  tokens.copy(begin + 1, item.y);
}

}  // namespace

void require_window_fits(std::int64_t tokens, std::int64_t length, std::string_view source) {
  require_input(length >= 1, source, "a context of {} tokens is not possible; it must be at least 1", length);
  require_input(tokens > length, source,
                "too short: a context of {} needs {} tokens, there are {}; use more data or a shorter context", length,
                length + 1, tokens);
}

TextWindows::TextWindows(TokenSpan tokens, std::int64_t length, std::int64_t stride, std::string_view source)
    : tokens_(std::move(tokens)), length_(length), stride_(stride) {
  require_window_fits(tokens_.size(), length, source);
  require_input(stride >= 1, source, "a stride of {} is not possible; it must be at least 1", stride);
}

std::int64_t TextWindows::size() const { return (tokens_.size() - length_ - 1) / stride_ + 1; }

void TextWindows::read(std::int64_t index, ItemSpans item) const {
  require(index >= 0 && index < size(), "text", "there is no item {} among {}", index, size());
  read_window(tokens_, index * stride_, item);
}

std::string TextWindows::fingerprint() const {
  return fmt::format("windows-{}-{}-{}", length_, stride_, tokens_.fingerprint());
}

EvaluationWindows::EvaluationWindows(TokenSpan tokens, std::int64_t length, std::int64_t stride,
                                     std::string_view source)
    : tokens_(std::move(tokens)), length_(length), stride_(stride) {
  require_window_fits(tokens_.size(), length, source);
  require_input(stride >= 1 && stride <= length, source, "a stride of {} is not possible; it must be 1 to {}", stride,
                length);
}

std::int64_t EvaluationWindows::size() const {
  // The last window starts at T-1-L or later only if it must be moved back there.
  return (tokens_.size() - 1 - length_ + stride_ - 1) / stride_ + 1;
}

void EvaluationWindows::read(std::int64_t index, ItemSpans item) const {
  require(index >= 0 && index < size(), "evaluation", "there is no item {} among {}", index, size());
  const std::int64_t begin = std::min(index * stride_, tokens_.size() - 1 - length_);
  read_window(tokens_, begin, item);
  // The window before, which is never the moved one, had the inputs up to (index-1)·stride + L.
  const std::int64_t known = index == 0 ? 0 : (index - 1) * stride_ + length_ - begin;
  std::fill_n(item.y.begin(), known, kIgnoreTarget);
}

std::string EvaluationWindows::fingerprint() const {
  return fmt::format("evaluation-{}-{}-{}", length_, stride_, tokens_.fingerprint());
}

}  // namespace sq
