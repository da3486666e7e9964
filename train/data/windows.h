// train/data/windows.h: a long row of ids cut into items, for training and for evaluation.
#pragma once

#include "train/data/token_array.h"

namespace sq {

/// The original's text data set: item i = ids[i·stride … i·stride+L], x its first L ids, y its last L. Of T ids,
/// ⌊(T-L-1)/stride⌋+1 items come; stride 1 gives the original's T-L, stride L reads each id once as an input.
class TextWindows final : public Dataset {
 public:
  /// Throws UsageError naming `source` when length or stride is below 1 or there are fewer than L+1 ids.
  TextWindows(TokenSpan tokens, std::int64_t length, std::int64_t stride = 1, std::string_view source = "text");
  std::int64_t size() const override;
  std::int64_t length() const override { return length_; }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;

 private:
  TokenSpan tokens_;
  std::int64_t length_, stride_;
};

/// Windows for measuring a loss: over all items every id but the first is a target exactly once. Window k starts at
/// k·stride, the last one as late as possible; targets that an earlier window had are kIgnoreTarget. With stride L the
/// windows lie side by side, a smaller one gives every target at least L-stride ids of context.
class EvaluationWindows final : public Dataset {
 public:
  /// Throws UsageError naming `source` when there are fewer than L+1 ids or unless 1 <= stride <= L.
  EvaluationWindows(TokenSpan tokens, std::int64_t length, std::int64_t stride, std::string_view source = "text");
  std::int64_t size() const override;
  std::int64_t length() const override { return length_; }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;
  /// Targets that count over all items: T-1.
  std::int64_t target_count() const { return tokens_.size() - 1; }

 private:
  TokenSpan tokens_;
  std::int64_t length_, stride_;
};

/// Throws UsageError naming `source` unless a window of `length` ids and its targets fit into `tokens` ids.
void require_window_fits(std::int64_t tokens, std::int64_t length, std::string_view source);

}  // namespace sq
