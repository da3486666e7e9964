// train/data/needle_task.h: find one value far back in an empty text.
#pragma once

#include "train/data/dataset.h"

namespace sq {

struct NeedleOptions {
  std::int64_t vocab_size = 50, length = 512, items = 100;
  /// Positions between the value and the query.
  std::int64_t distance = 100;
  /// Draw the distance of each item from 1 … distance, so that no fixed place can be learned by heart.
  bool random_distance = false;
  /// Another seed gives other items: one for training, another to measure what was learned.
  std::uint64_t seed = 42;
  /// Leave out all targets but the value: the others are padding and would drown it.
  bool answer_only = false;
};

/// Item i, of L+1 ids: zeros, but the key vocab-1 at L-distance-2, the value right behind it, uniform in [1, vocab-3]
/// and a function of (seed, i), the query vocab-2 at L-1 and the value again at L, where it is the last target.
class NeedleTask final : public Dataset {
 public:
  /// Throws UsageError unless vocab_size >= 4, items >= 1 and 1 <= distance <= L-2.
  explicit NeedleTask(NeedleOptions options);
  std::int64_t size() const override { return options_.items; }
  std::int64_t length() const override { return options_.length; }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;

  /// The value that item `index` hides.
  std::int64_t answer(std::int64_t index) const;
  /// The share of correct answers of somebody who always says the commonest value: what a model must beat.
  double majority_accuracy() const;

 private:
  NeedleOptions options_;
};

}  // namespace sq
