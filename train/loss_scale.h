// train/loss_scale.h: keeping f16 gradients in range.
#pragma once

#include <cstdint>

namespace sq {

/// f16 has no number below 6e-8 and none above 65504. The loss is multiplied by a scale before the backward pass, so
/// that small gradients do not vanish, and the gradients are divided by it before they are used. Where one overflows,
/// the update is left out and the scale halved; after kGrowthSteps updates in a row it is doubled (Micikevicius et al.
/// 2018, section 3.2; dynamic as in the original trainer).
class LossScale {
 public:
  static constexpr double kFirst = 65536, kLeast = 1;
  static constexpr std::int64_t kGrowthSteps = 2000;

  double value() const { return value_; }
  /// Updates since the scale last changed.
  std::int64_t good_steps() const { return good_steps_; }
  /// Takes up where a run was.
  void restore(double value, std::int64_t good_steps) {
    value_ = value;
    good_steps_ = good_steps;
  }

  /// After an update.
  void succeeded() {
    if (++good_steps_ < kGrowthSteps) return;
    value_ *= 2;
    good_steps_ = 0;
  }
  /// After an overflow. Returns false when the scale cannot be to blame, because it is as small as it gets.
  bool overflowed() {
    good_steps_ = 0;
    if (value_ <= kLeast) return false;
    value_ /= 2;
    return true;
  }

 private:
  double value_ = kFirst;
  std::int64_t good_steps_ = 0;
};

}  // namespace sq
