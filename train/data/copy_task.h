// train/data/copy_task.h: repeat a random pattern, the smallest test of looking back.
#pragma once

#include "nn/fields.h"
#include "train/data/task.h"

namespace sq {

struct CopyTaskConfig {
  std::int64_t vocab_size = 50;
  std::int64_t pattern_length = 8;

  static constexpr auto fields() {
    using C = CopyTaskConfig;
    return std::tuple{field("vocab_size", &C::vocab_size, "ids", {.min = 2, .max = 1 << 30}),
                      field("pattern_length", &C::pattern_length, "ids that repeat", {.min = 1, .max = 1 << 30})};
  }
};

/// p uniform ids of 1 … V-1, again and again: x[t] = pattern[t mod p]. Asked is the next id, from the last id of the
/// first pattern on: y[t] = pattern[(t+1) mod p] for t >= p-1.
class CopyTask final : public Task {
 public:
  /// Throws UsageError unless pattern_length <= length: otherwise nothing would be asked.
  CopyTask(const CopyTaskConfig& config, std::int64_t length);
  void sample(TaskDraws& draws, ItemSpans item) const override;

 private:
  CopyTaskConfig config_;
};

}  // namespace sq
