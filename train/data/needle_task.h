// train/data/needle_task.h: find one value far back in an empty text.
#pragma once

#include "nn/fields.h"
#include "train/data/task.h"

namespace sq {

struct NeedleTaskConfig {
  std::int64_t vocab_size = 50;
  std::int64_t distance = 0;

  static constexpr auto fields() {
    using C = NeedleTaskConfig;
    return std::tuple{field("vocab_size", &C::vocab_size, "ids", {.min = 4, .max = 1 << 30}),
                      field("distance", &C::distance,
                            "positions from the value to the question; 0 = drawn for each sample from all that fit",
                            {.min = 0, .max = 1 << 30})};
  }
};

/// Zeros, but the key V-1 at L-d-2, the value right behind it, uniform in 1 … V-3, and the question V-2 at the last
/// position L-1, where the value is asked. A d drawn from 1 … L-2 leaves no fixed place to be learned by heart.
class NeedleTask final : public Task {
 public:
  /// Throws UsageError unless distance <= length - 2.
  NeedleTask(const NeedleTaskConfig& config, std::int64_t length);
  void sample(TaskDraws& draws, ItemSpans item) const override;

 private:
  NeedleTaskConfig config_;
};

}  // namespace sq
