#include "train/data/needle_task.h"

#include "tensor/error.h"

#include <algorithm>

namespace sq {

NeedleTask::NeedleTask(const NeedleTaskConfig& config, std::int64_t length)
    : Task(length, config.vocab_size), config_(config) {
  require_input(length >= 3, "task needle", "a length of {} is not possible; key, value and question need 3", length);
  require_input(config.distance <= length - 2, "task needle",
                "distance {} does not fit into a length of {}; it must be at most length - 2, which is {}",
                config.distance, length, length - 2);
}

void NeedleTask::sample(TaskDraws& draws, ItemSpans item) const {
  const std::int64_t value = 1 + draws.below(config_.vocab_size - 3);
  const std::int64_t distance = config_.distance > 0 ? config_.distance : 1 + draws.below(length() - 2);
  std::fill(item.x.begin(), item.x.end(), 0);
  const auto key = item.x.end() - distance - 2;
  key[0] = config_.vocab_size - 1;
  key[1] = value;
  item.x.back() = config_.vocab_size - 2;
  item.y.back() = value;
}

}  // namespace sq
