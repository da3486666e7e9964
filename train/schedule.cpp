#include "train/schedule.h"

#include "tensor/error.h"

#include <cmath>
#include <numbers>

namespace sq {

void validate(const Schedule& s) {
  const auto rate = [](std::string_view field, double value) {
    require_input(std::isfinite(value) && value >= 0, field, "{} is not a learning rate; give a finite number >= 0",
                  value);
  };
  rate("learning_rate", s.learning_rate);
  rate("min_learning_rate", s.min_learning_rate);
  const auto count = [](std::string_view field, std::int64_t value) {
    require_input(value >= 0, field, "{} is not a number of steps; give 0 or more", value);
  };
  count("warmup_steps", s.warmup_steps);
  count("decay_steps", s.decay_steps);
  count("cooldown_steps", s.cooldown_steps);
  if (s.shape == ScheduleShape::constant) return;
  require_input(s.min_learning_rate <= s.learning_rate, "min_learning_rate", "{} exceeds learning_rate {}",
                s.min_learning_rate, s.learning_rate);
  require_input(s.decay_steps > s.warmup_steps, "decay_steps", "{} leaves no room after the {} steps of warmup_steps",
                s.decay_steps, s.warmup_steps);
  require_input(s.shape != ScheduleShape::wsd || s.cooldown_steps <= s.decay_steps - s.warmup_steps, "cooldown_steps",
                "{} does not fit between warmup_steps {} and decay_steps {}", s.cooldown_steps, s.warmup_steps,
                s.decay_steps);
}

double learning_rate_at(const Schedule& s, std::int64_t step) {
  const double peak = s.learning_rate, low = s.min_learning_rate;
  if (step < s.warmup_steps) return peak * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps + 1);
  if (s.shape == ScheduleShape::constant) return peak;
  if (step >= s.decay_steps) return low;
  const auto share = [step](std::int64_t from, std::int64_t to) {
    return static_cast<double>(step - from) / static_cast<double>(to - from);
  };
  switch (s.shape) {
    case ScheduleShape::linear:
      return peak + (low - peak) * share(s.warmup_steps, s.decay_steps);
    case ScheduleShape::cosine:
      return low + (peak - low) * 0.5 * (1 + std::cos(std::numbers::pi * share(s.warmup_steps, s.decay_steps)));
    default: {
      const std::int64_t begin = s.decay_steps - s.cooldown_steps;
      return step < begin ? peak : peak + (low - peak) * share(begin, s.decay_steps);
    }
  }
}

}  // namespace sq
