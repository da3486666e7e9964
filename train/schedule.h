// train/schedule.h: the learning rate as a pure function of the step.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace sq {

/// How the rate goes on after warm-up.
///   constant  stays at the peak
///   linear    falls in a straight line to the minimum, reached at decay_steps
///   cosine    falls along half a cosine to the minimum, reached at decay_steps (Loshchilov & Hutter 2017)
///   wsd       stays at the peak, then falls in a straight line over the last cooldown_steps before decay_steps
///             (warm-up, stable, decay: Hu et al. 2024, "MiniCPM")
/// From decay_steps on the rate is the minimum.
enum class ScheduleShape { constant, linear, cosine, wsd };

constexpr std::array<std::string_view, 4> choices(ScheduleShape) { return {"constant", "linear", "cosine", "wsd"}; }

struct Schedule {
  ScheduleShape shape = ScheduleShape::constant;
  double learning_rate = 1e-4;      // the peak
  double min_learning_rate = 0;     // where the falling shapes end
  std::int64_t warmup_steps = 0;    // the rate rises to the peak in equal parts during these steps
  std::int64_t decay_steps = 0;     // the step from which the minimum holds; unused by constant
  std::int64_t cooldown_steps = 0;  // wsd only
};

/// Throws UsageError that names the field, its value and the rule: rates finite and not negative, the minimum at most
/// the peak, step counts not negative, warm-up before decay_steps, the cooldown between both.
void validate(const Schedule& schedule);

/// The rate for the update after `step` finished ones (so the first update asks for step 0), with W = warmup_steps,
/// E = decay_steps, r = learning_rate, m = min_learning_rate:
///   step < W:       r · (step + 1) / (W + 1)
///   step >= E:      m                                           (all shapes but constant)
///   linear:         r + (m - r) · p,             p = (step - W) / (E - W)
///   cosine:         m + (r - m) · (1 + cos πp) / 2
///   wsd:            r before E - cooldown_steps, from there r + (m - r) · (step - E + cooldown) / cooldown
double learning_rate_at(const Schedule& schedule, std::int64_t step);

}  // namespace sq
