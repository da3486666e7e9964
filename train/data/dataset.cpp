#include "train/data/dataset.h"

#include "tensor/error.h"

#include <algorithm>
#include <cmath>

namespace sq {

void split_pair(std::span<const std::int64_t> sequence, ItemSpans item) {
  std::copy(sequence.begin(), sequence.end() - 1, item.x.begin());
  std::copy(sequence.begin() + 1, sequence.end(), item.y.begin());
}

Subset::Subset(std::shared_ptr<const Dataset> whole, std::int64_t begin, std::int64_t count)
    : whole_(std::move(whole)), begin_(begin), count_(count) {
  require_input(begin >= 0 && count >= 0 && begin <= whole_->size() && count <= whole_->size() - begin, "subset",
                "items {} to {} reach outside a data set of {}", begin, begin + count - 1, whole_->size());
}

void Subset::read(std::int64_t index, ItemSpans item) const {
  require(index >= 0 && index < count_, "subset", "there is no item {} among {}", index, count_);
  whole_->read(begin_ + index, item);
}

std::string Subset::fingerprint() const { return fmt::format("{}[{}+{}]", whole_->fingerprint(), begin_, count_); }

std::int64_t training_count(std::int64_t count, double validation_share) {
  require_input(validation_share >= 0 && validation_share < 1, "split",
                "a validation share of {} is not possible; it must be at least 0 and below 1", validation_share);
  return static_cast<std::int64_t>(std::floor(static_cast<double>(count) * (1.0 - validation_share)));
}

}  // namespace sq
