// train/data/induction_task.h: what came after this last time? (Olsson et al. 2022, "In-context Learning and Induction
// Heads"; in the form of Gu and Dao 2023, section 4.1, with one trigger.)
#pragma once

#include "nn/fields.h"
#include "train/data/task.h"

namespace sq {

struct InductionTaskConfig {
  std::int64_t vocab_size = 16;

  static constexpr auto fields() {
    return std::tuple{field("vocab_size", &InductionTaskConfig::vocab_size, "ids, the last one is the trigger",
                            {.min = 3, .max = 1 << 30})};
  }
};

/// Uniform ids of 0 … V-2, but the trigger V-1 at a random place p of 0 … L-3 and again at the last position, where the
/// id that stood behind the first one is asked: y[L-1] = x[p+1].
class InductionTask final : public Task {
 public:
  /// Throws UsageError unless length >= 3.
  InductionTask(const InductionTaskConfig& config, std::int64_t length);
  void sample(TaskDraws& draws, ItemSpans item) const override;
};

}  // namespace sq
