// train/data/dataset.h: what training data looks like to the trainer: numbered pairs of token sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace sq {

/// A target that the loss leaves out.
inline constexpr std::int64_t kIgnoreTarget = -100;

/// The two parts of an item, both `length` ids long: inputs x and the ids y that should follow them.
struct ItemSpans {
  std::span<std::int64_t> x, y;
};

/// Items 0 … size-1 that can be read in any order, any number of times, from several threads: item i is always the
/// same. That is what makes a resumed run see the data that the uninterrupted one would have seen.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// L: ids in x and in y.
  virtual std::int64_t length() const = 0;
  /// Writes item `index` into spans of `length` ids.
  virtual void read(std::int64_t index, ItemSpans item) const = 0;
  /// A short text that differs when the items do: kept with a run, so that resuming it on other data is noticed.
  virtual std::string fingerprint() const = 0;
};

/// Splits L+1 consecutive ids into x (the first L) and y (the last L).
void split_pair(std::span<const std::int64_t> sequence, ItemSpans item);

/// Items begin … begin+count-1 of another data set, such as its validation part.
class Subset final : public Dataset {
 public:
  /// Throws UsageError when the range reaches outside the data set.
  Subset(std::shared_ptr<const Dataset> whole, std::int64_t begin, std::int64_t count);
  std::int64_t size() const override { return count_; }
  std::int64_t length() const override { return whole_->length(); }
  void read(std::int64_t index, ItemSpans item) const override;
  std::string fingerprint() const override;

 private:
  std::shared_ptr<const Dataset> whole_;
  std::int64_t begin_, count_;
};

/// The share of the data kept for validation where nothing else is said: the last tenth.
inline constexpr double kValidationShare = 0.1;

/// How many of `count` items train when the last `validation_share` of them are kept back: ⌊count·(1 - share)⌋. Throws
/// UsageError unless 0 <= validation_share < 1.
std::int64_t training_count(std::int64_t count, double validation_share = kValidationShare);

/// Streams of random numbers of the data, apart from each other and from those that the model draws (which count from
/// 0): the upper bits name the purpose, the lower ones are free for an epoch, a step or a
/// sample.
namespace data_stream {
inline constexpr std::uint64_t kWindows = 0xDA7A'0001'0000'0000u;
inline constexpr std::uint64_t kEpochOrder = 0xDA7A'0002'0000'0000u;
inline constexpr std::uint64_t kShuffleBuffer = 0xDA7A'0003'0000'0000u;
inline constexpr std::uint64_t kTaskTraining = 0xDA7A'0004'0000'0000u;
inline constexpr std::uint64_t kTaskValidation = 0xDA7A'0005'0000'0000u;
}  // namespace data_stream

}  // namespace sq
