// train/data/selective_copy_task.h: remember what matters and skip the rest (Gu and Dao 2023, "Mamba: Linear-Time
// Sequence Modeling with Selective State Spaces", section 4.1; after Arjovsky et al. 2016).
#pragma once

#include "nn/fields.h"
#include "train/data/task.h"

namespace sq {

struct SelectiveCopyTaskConfig {
  std::int64_t vocab_size = 16;
  std::int64_t tokens = 16;

  static constexpr auto fields() {
    using C = SelectiveCopyTaskConfig;
    return std::tuple{
        field("vocab_size", &C::vocab_size, "ids: noise 0, the mark 1, and those to copy", {.min = 4, .max = 1 << 30}),
        field("tokens", &C::tokens, "ids to copy", {.min = 1, .max = 1 << 24})};
  }
};

/// K uniform ids of 2 … V-1 at different random places of the first L-K positions, 0 elsewhere; the last K positions
/// hold the mark 1, and the i-th mark asks for the i-th of these ids. Since the places are random, counting positions
/// does not help: the model must tell ids from noise.
class SelectiveCopyTask final : public Task {
 public:
  /// Throws UsageError unless 2·tokens <= length.
  SelectiveCopyTask(const SelectiveCopyTaskConfig& config, std::int64_t length);
  void sample(TaskDraws& draws, ItemSpans item) const override;

 private:
  SelectiveCopyTaskConfig config_;
};

}  // namespace sq
