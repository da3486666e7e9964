#include "train/data/mqar_task.h"

#include "tensor/error.h"

#include <cmath>

namespace sq {

MqarTask::MqarTask(const MqarTaskConfig& config, std::int64_t length)
    : Task(length, config.vocab_size), config_(config) {
  require_input(4 * config.pairs <= length, "task mqar",
                "{} pairs are not possible in a length of {}; pairs take 2 positions each and questions as many again, "
                "so 4·pairs <= length",
                config.pairs, length);
  require_input(
      config.pairs <= config.vocab_size / 2 - 1, "task mqar",
      "{} pairs are not possible with a vocabulary of {}; keys are different ids of its lower half without 0, "
      "so pairs <= vocab_size/2 - 1",
      config.pairs, config.vocab_size);
  require_input(config.fewest_pairs <= config.pairs, "task mqar",
                "fewest_pairs is {} but must be at most pairs, which is {}", config.fewest_pairs, config.pairs);
  const std::int64_t fewest = config.fewest_pairs > 0 ? config.fewest_pairs : config.pairs;
  for (std::int64_t g = 0; g < (length - 2 * fewest) / 2; ++g)
    gap_weights_.push_back(std::pow(static_cast<double>(g + 1), config.power - 1));
}

void MqarTask::sample(TaskDraws& draws, ItemSpans item) const {
  const std::int64_t half = config_.vocab_size / 2, fewest = config_.fewest_pairs;
  const bool fewer = fewest > 0 && draws.part() == TaskPart::training;
  const std::int64_t pairs = fewer ? fewest + draws.below(config_.pairs - fewest + 1) : config_.pairs;
  const std::vector<std::int64_t> keys = draws.distinct(pairs, half - 1);
  const std::vector<std::int64_t> values = draws.distinct(pairs, config_.vocab_size - half);
  const std::vector<std::int64_t> gaps =
      draws.weighted(pairs, std::span(gap_weights_).first(static_cast<std::size_t>((length() - 2 * pairs) / 2)));
  for (auto& id : item.x.subspan(static_cast<std::size_t>(2 * pairs)))
    id = config_.random_filler ? draws.below(config_.vocab_size) : 0;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::int64_t key = 1 + keys[i], value = half + values[i];
    item.x[2 * i] = key;
    item.x[2 * i + 1] = value;
    const auto question = static_cast<std::size_t>(2 * (pairs + gaps[i]));
    item.x[question] = key;
    item.y[question] = value;
  }
}

}  // namespace sq
