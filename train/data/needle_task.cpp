#include "train/data/needle_task.h"

#include "tensor/error.h"
#include "tensor/random.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace sq {
namespace {

std::uint64_t stream_of(std::int64_t index) { return data_stream::kNeedleTask + static_cast<std::uint64_t>(index); }

}  // namespace

NeedleTask::NeedleTask(NeedleOptions options) : options_(options) {
  require_input(options.vocab_size >= 4, "needle task",
                "a vocabulary of {} is too small; padding, key, query and a value need at least 4", options.vocab_size);
  require_input(options.items >= 1, "needle task", "{} items are not possible; it must be at least 1", options.items);
  require_input(options.distance >= 1 && options.distance <= options.length - 2, "needle task",
                "a distance of {} does not fit into a length of {}; it must be 1 to {}", options.distance,
                options.length, options.length - 2);
}

std::int64_t NeedleTask::answer(std::int64_t index) const {
  require(index >= 0 && index < options_.items, "needle task", "there is no item {} among {}", index, options_.items);
  const auto choices = static_cast<std::uint64_t>(options_.vocab_size - 3);
  return static_cast<std::int64_t>(1 + random_below(options_.seed, stream_of(index), 0, choices));
}

void NeedleTask::read(std::int64_t index, ItemSpans item) const {
  const std::int64_t value = answer(index), length = options_.length;
  std::int64_t distance = options_.distance;
  if (options_.random_distance)
    distance = static_cast<std::int64_t>(
        1 + random_below(options_.seed, stream_of(index), 1, static_cast<std::uint64_t>(options_.distance)));
  std::vector<std::int64_t> sequence(static_cast<std::size_t>(length) + 1, 0);
  const auto at = [&](std::int64_t position) -> std::int64_t& { return sequence[static_cast<std::size_t>(position)]; };
  at(length - distance - 2) = options_.vocab_size - 1;
  at(length - distance - 1) = value;
  at(length - 1) = options_.vocab_size - 2;
  at(length) = value;
  split_pair(sequence, item);
  if (options_.answer_only) std::fill(item.y.begin(), item.y.end() - 1, kIgnoreTarget);
}

std::string NeedleTask::fingerprint() const {
  const NeedleOptions& o = options_;
  return fmt::format("needle-{}-{}-{}-{}-{}-{}-{}", o.vocab_size, o.length, o.items, o.distance, o.random_distance,
                     o.seed, o.answer_only);
}

double NeedleTask::majority_accuracy() const {
  std::unordered_map<std::int64_t, std::int64_t> counts;
  std::int64_t most = 0;
  for (std::int64_t i = 0; i < options_.items; ++i) most = std::max(most, ++counts[answer(i)]);
  return static_cast<double>(most) / static_cast<double>(options_.items);
}

}  // namespace sq
