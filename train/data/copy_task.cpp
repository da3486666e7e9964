#include "train/data/copy_task.h"

#include "tensor/error.h"

namespace sq {

CopyTask::CopyTask(const CopyTaskConfig& config, std::int64_t length)
    : Task(length, config.vocab_size), config_(config) {
  require_input(
      config.pattern_length <= length, "task copy",
      "pattern_length {} is not possible in a length of {}; nothing would repeat, so pattern_length <= length",
      config.pattern_length, length);
}

void CopyTask::sample(TaskDraws& draws, ItemSpans item) const {
  std::vector<std::int64_t> pattern;
  for (std::int64_t i = 0; i < config_.pattern_length; ++i) pattern.push_back(1 + draws.below(config_.vocab_size - 1));
  const std::size_t period = pattern.size();
  for (std::size_t t = 0; t < item.x.size(); ++t) {
    item.x[t] = pattern[t % period];
    if (t + 1 >= period) item.y[t] = pattern[(t + 1) % period];
  }
}

}  // namespace sq
