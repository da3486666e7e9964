#include "train/data/task.h"

#include "tensor/error.h"
#include "tensor/random.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace sq {

std::int64_t TaskDraws::below(std::int64_t bound) {
  require(bound >= 1, "task", "there is no number below {}", bound);
  return static_cast<std::int64_t>(random_below(seed_, stream_, next_++, static_cast<std::uint64_t>(bound)));
}

double TaskDraws::unit() {
  constexpr std::int64_t kSteps = std::int64_t{1} << 53;
  return static_cast<double>(below(kSteps) + 1) / static_cast<double>(kSteps);
}

/// The first `count` steps of a Fisher-Yates shuffle of 0 … bound-1, of which only the places that moved are kept.
std::vector<std::int64_t> TaskDraws::distinct(std::int64_t count, std::int64_t bound) {
  require(count >= 0 && count <= bound, "task", "there are no {} different numbers below {}", count, bound);
  std::unordered_map<std::int64_t, std::int64_t> moved;
  const auto at = [&](std::int64_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t place = i + below(bound - i);
    chosen.push_back(at(place));
    moved[place] = at(i);
  }
  return chosen;
}

/// Draws without replacement are the `count` smallest of independent times -ln(u) / weight, in order (Efraimidis and
/// Spirakis 2006).
std::vector<std::int64_t> TaskDraws::weighted(std::int64_t count, std::span<const double> weights) {
  require(count >= 0 && static_cast<std::size_t>(count) <= weights.size(), "task",
          "there are no {} different places among {}", count, weights.size());
  std::vector<std::pair<double, std::int64_t>> times;
  for (const double weight : weights)
    times.emplace_back(-std::log(unit()) / weight, static_cast<std::int64_t>(times.size()));
  std::partial_sort(times.begin(), times.begin() + count, times.end());
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < count; ++i) places.push_back(times[static_cast<std::size_t>(i)].second);
  return places;
}

TaskData::TaskData(std::shared_ptr<const Task> task, std::string description, std::uint64_t seed, TaskPart part,
                   std::int64_t items)
    : task_(std::move(task)), description_(std::move(description)), seed_(seed), part_(part), items_(items) {
  require_input(items >= 1 && items <= kAll, "task", "{} items are not possible; use 1 to {}", items, kAll);
}

void TaskData::read(std::int64_t index, ItemSpans item) const {
  require(index >= 0 && index < items_, "task", "there is no item {} among {}", index, items_);
  const std::uint64_t first = part_ == TaskPart::training ? data_stream::kTaskTraining : data_stream::kTaskValidation;
  std::fill(item.y.begin(), item.y.end(), kIgnoreTarget);
  TaskDraws draws(seed_, first + static_cast<std::uint64_t>(index), part_);
  task_->sample(draws, item);
}

std::string TaskData::fingerprint() const {
  return fmt::format("{}, length {}, seed {}, {} of part {}", description_, length(), seed_, items_,
                     static_cast<int>(part_));
}

}  // namespace sq
