#include "train/data/induction_task.h"

#include "tensor/error.h"

namespace sq {

InductionTask::InductionTask(const InductionTaskConfig& config, std::int64_t length) : Task(length, config.vocab_size) {
  require_input(length >= 3, "task induction",
                "a length of {} is not possible; the trigger, what follows it and the trigger again need 3", length);
}

void InductionTask::sample(TaskDraws& draws, ItemSpans item) const {
  const std::int64_t trigger = vocab_size() - 1;
  const auto place = static_cast<std::size_t>(draws.below(length() - 2));
  for (std::int64_t& id : item.x) id = draws.below(trigger);
  item.x[place] = trigger;
  item.x.back() = trigger;
  item.y.back() = item.x[place + 1];
}

}  // namespace sq
