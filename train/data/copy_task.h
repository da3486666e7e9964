// train/data/copy_task.h: repeat a random pattern, the smallest test of looking back.
#pragma once

#include "train/data/dataset.h"

namespace sq {

struct CopyOptions {
  std::int64_t vocab_size = 50, length = 128, items = 100, pattern_length = 8;
  /// Another seed gives other items: one for training, another to measure what was learned.
  std::uint64_t seed = 42;
  /// Leave out the targets of the first pattern, which nothing foretells.
  bool answer_only = false;
};

/// Item i: a pattern of uniform ids in [1, vocab-1], a function of (seed, i), repeated to L+1 ids.
class CopyTask final : public Dataset {
 public:
  /// Throws UsageError when vocab_size < 2 or another size < 1.
  explicit CopyTask(CopyOptions options);
  std::int64_t size() const override { return options_.items; }
  std::int64_t length() const override { return options_.length; }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;

 private:
  CopyOptions options_;
};

}  // namespace sq
