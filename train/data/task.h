// train/data/task.h: made-up tasks: sequences in which the right answers follow from what stands before them, so that
// what a model has learned can be counted.
//
// A task turns random numbers into a sample: ids x [L] and targets y [L], kIgnoreTarget wherever nothing is asked. y[t]
// is the answer to be given at position t; it follows from x[0 … t] and nothing else. The tasks are listed in tasks.h.
#pragma once

#include "train/data/dataset.h"

#include <vector>

namespace sq {

/// Which of two streams of samples, apart from each other: what is validated on was never trained on, but for a task
/// so small that chance repeats it.
enum class TaskPart { training, validation };

/// The random numbers of one sample: a function of (seed, stream), so that any sample can be made alone.
class TaskDraws {
 public:
  TaskDraws(std::uint64_t seed, std::uint64_t stream, TaskPart part = TaskPart::training)
      : seed_(seed), stream_(stream), part_(part) {}

  /// What the sample is for.
  TaskPart part() const { return part_; }

  /// Uniform in 0 … bound-1, bound >= 1.
  std::int64_t below(std::int64_t bound);
  /// Uniform in (0, 1].
  double unit();
  /// `count` different numbers of 0 … bound-1 in random order, 0 <= count <= bound.
  std::vector<std::int64_t> distinct(std::int64_t count, std::int64_t bound);
  /// `count` different places of `weights`, drawn one after the other, each with a chance proportional to its weight
  /// (> 0) among those that are left. In the order of the draws.
  std::vector<std::int64_t> weighted(std::int64_t count, std::span<const double> weights);

 private:
  std::uint64_t seed_, stream_, next_ = 0;
  TaskPart part_;
};

class Task {
 public:
  /// Samples of `length` ids out of `vocab_size`.
  Task(std::int64_t length, std::int64_t vocab_size) : length_(length), vocab_size_(vocab_size) {}
  virtual ~Task() = default;
  std::int64_t length() const { return length_; }
  std::int64_t vocab_size() const { return vocab_size_; }

  /// Fills x and y, both `length` ids long. y holds kIgnoreTarget when it is called.
  virtual void sample(TaskDraws& draws, ItemSpans item) const = 0;

 private:
  std::int64_t length_, vocab_size_;
};

/// Samples of a task as a data set: item i is a function of (seed, part, i).
class TaskData final : public Dataset {
 public:
  /// As many samples as a part has.
  static constexpr std::int64_t kAll = std::int64_t{1} << 32;

  /// `description` says what the task is, with all its options. Throws UsageError unless 1 <= items <= kAll.
  TaskData(std::shared_ptr<const Task> task, std::string description, std::uint64_t seed, TaskPart part,
           std::int64_t items = kAll);
  std::int64_t size() const override { return items_; }
  std::int64_t length() const override { return task_->length(); }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;

 private:
  std::shared_ptr<const Task> task_;
  std::string description_;
  std::uint64_t seed_;
  TaskPart part_;
  std::int64_t items_;
};

}  // namespace sq
