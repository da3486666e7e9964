// train/data/mqar_task.h: multi-query associative recall (Arora et al. 2023, "Zoology: Measuring and Improving Recall
// in Efficient Language Models").
#pragma once

#include "nn/fields.h"
#include "train/data/task.h"

namespace sq {

struct MqarTaskConfig {
  std::int64_t vocab_size = 8192;
  std::int64_t pairs = 8;
  std::int64_t fewest_pairs = 0;
  double power = 0.01;
  bool random_filler = true;

  static constexpr auto fields() {
    using C = MqarTaskConfig;
    return std::tuple{
        field("vocab_size", &C::vocab_size, "ids; keys from the lower half, values from the upper one",
              {.min = 4, .max = 1 << 30}),
        field("pairs", &C::pairs, "key-value pairs, and as many questions", {.min = 1, .max = 1 << 24}),
        field("fewest_pairs", &C::fewest_pairs,
              "training samples have this many pairs to `pairs`, evenly drawn; 0 = always `pairs`, as validation has",
              {.min = 0, .max = 1 << 24}),
        field("power", &C::power,
              "a of the law a·g^(a-1) by which gaps g are drawn; 1 = all alike, near 0 = short ones",
              {.min = 0, .max = 1, .above_min = true}),
        field("random_filler", &C::random_filler, "random ids between the questions; otherwise 0"),
    };
  }
};

/// k1 v1 k2 v2 … kP vP, then questions: every key once more, at which its value is asked. With P pairs,
///   x[2i] = k_i, x[2i+1] = v_i;  keys are different ids of 1 … V/2-1, values different ids of V/2 … V-1;
///   question i stands at t = 2P + 2·g_i, x[t] = k_i, y[t] = v_i; the gaps g_i are different numbers of
///   0 … ⌊(L-2P)/2⌋-1, drawn one after the other with chances proportional to (g+1)^(a-1).
/// With `fewest_pairs` the number P differs between the samples of training, few pairs being learned before many; what
/// is validated has all pairs. All other positions hold filler, random ids of the whole vocabulary or 0. The value
/// never stands in x again.
class MqarTask final : public Task {
 public:
  /// Throws UsageError unless fewest_pairs <= pairs, 4·pairs <= length and pairs <= vocab_size/2 - 1.
  MqarTask(const MqarTaskConfig& config, std::int64_t length);
  void sample(TaskDraws& draws, ItemSpans item) const override;

 private:
  MqarTaskConfig config_;
  std::vector<double> gap_weights_;
};

}  // namespace sq
