#include "train/data/permutation.h"

#include "tensor/error.h"
#include "tensor/random.h"
#include "train/data/dataset.h"

#include <cmath>

namespace sq {
namespace {

constexpr std::uint64_t kRounds = 8;

std::uint64_t ceil_sqrt(std::uint64_t n) {
  auto root = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(n)));
  while (root * root < n) ++root;
  while (root > 1 && (root - 1) * (root - 1) >= n) --root;
  return root;
}

}  // namespace

Permutation::Permutation(std::int64_t count, std::uint64_t seed, std::int64_t epoch)
    : count_(static_cast<std::uint64_t>(count)),
      side_(0),
      seed_(seed),
      stream_(data_stream::kEpochOrder + static_cast<std::uint64_t>(epoch) * kRounds) {
  require(count >= 0 && count <= std::int64_t{1} << 62, "permutation", "{} items cannot be ordered", count);
  side_ = ceil_sqrt(count_);
}

std::uint64_t Permutation::mix(std::uint64_t value) const {
  std::uint64_t left = value / side_, right = value % side_;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t next = (left + random_below(seed_, stream_ + round, right, side_)) % side_;
    left = right;
    right = next;
  }
  return left * side_ + right;
}

std::int64_t Permutation::operator()(std::int64_t position) const {
  require(position >= 0 && static_cast<std::uint64_t>(position) < count_, "permutation",
          "there is no position {} among {}", position, count_);
  std::uint64_t value = mix(static_cast<std::uint64_t>(position));
  while (value >= count_) value = mix(value);
  return static_cast<std::int64_t>(value);
}

}  // namespace sq
