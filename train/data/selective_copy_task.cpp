#include "train/data/selective_copy_task.h"

#include "tensor/error.h"

#include <algorithm>

namespace sq {
namespace {

constexpr std::int64_t kNoise = 0, kMark = 1, kFirstValue = 2;

}  // namespace

SelectiveCopyTask::SelectiveCopyTask(const SelectiveCopyTaskConfig& config, std::int64_t length)
    : Task(length, config.vocab_size), config_(config) {
  require_input(2 * config.tokens <= length, "task selective_copy",
                "{} tokens are not possible in a length of {}; each needs a place and a mark, so 2·tokens <= length",
                config.tokens, length);
}

void SelectiveCopyTask::sample(TaskDraws& draws, ItemSpans item) const {
  const std::int64_t read = length() - config_.tokens;
  std::vector<std::int64_t> places = draws.distinct(config_.tokens, read);
  std::sort(places.begin(), places.end());
  std::fill(item.x.begin(), item.x.begin() + read, kNoise);
  std::fill(item.x.begin() + read, item.x.end(), kMark);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::int64_t value = kFirstValue + draws.below(config_.vocab_size - kFirstValue);
    item.x[static_cast<std::size_t>(places[i])] = value;
    item.y[static_cast<std::size_t>(read) + i] = value;
  }
}

}  // namespace sq
