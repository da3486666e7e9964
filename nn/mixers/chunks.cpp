#include "nn/mixers/chunks.h"

#include "ops/concat.h"
#include "ops/gather.h"
#include "ops/view.h"

#include <algorithm>

namespace sq {

Chunks::Chunks(const Tensor& x, std::int64_t chunk_size, const Tensor& mask)
    : positions_(x.size(1)), size_(std::min(chunk_size, positions_)), count_((positions_ + size_ - 1) / size_) {
  const std::int64_t behind = count_ * size_ - positions_;
  x_ = behind > 0 ? pad(x, 1, 0, behind) : x;
  if (!mask.defined()) {
    std::vector<double> before;
    for (std::int64_t c = 0; c < count_; ++c)
      before.push_back(static_cast<double>(std::max<std::int64_t>(c * size_, 1)));
    real_ = Tensor::full({1, count_}, static_cast<double>(size_), {.dtype = DType::f64});
    real_before_ = Tensor::from(before, {1, count_});
    return;
  }
  mask_ = behind > 0 ? pad(mask, 1, 0, behind) : mask;
  read_mask(mask_);
}

void Chunks::read_mask(const Tensor& mask) {
  const std::vector<double> real = mask.to_vector<double>();
  std::vector<std::int64_t> first, last, before;
  std::vector<std::uint8_t> exists;
  std::vector<double> numbers, before_numbers;
  for (std::int64_t b = 0; b < batch(); ++b) {
    std::int64_t seen = 0, total = 0;
    for (std::int64_t c = 0; c < count_; ++c) {
      std::int64_t begin = -1, end = 0, number = 0;
      before.push_back(seen);
      before_numbers.push_back(static_cast<double>(std::max<std::int64_t>(total, 1)));
      for (std::int64_t t = c * size_; t < (c + 1) * size_; ++t) {
        if (real[static_cast<std::size_t>(b * count_ * size_ + t)] == 0) continue;
        if (begin < 0) begin = t;
        end = seen = t;
        ++number;
      }
      first.push_back(std::max<std::int64_t>(begin, 0));
      last.push_back(end);
      exists.push_back(number > 0 ? 1 : 0);
      numbers.push_back(static_cast<double>(std::max<std::int64_t>(number, 1)));
      total += number;
    }
  }
  const Shape shape{batch(), count_};
  first_ = Tensor::from(first, shape);
  last_ = Tensor::from(last, shape);
  before_ = Tensor::from(before, shape);
  exists_ = Tensor::from(exists, shape);
  real_ = Tensor::from(numbers, shape);
  real_before_ = Tensor::from(before_numbers, shape);
}

Tensor Chunks::folded() const { return reshape(x_, {batch() * count_, size_, x_.size(2)}); }

Tensor Chunks::folded_positions() const {
  const Tensor all = Tensor::arange(count_ * size_);
  return reshape(expand(reshape(all, {1, count_, size_}), {batch(), count_, size_}), {batch() * count_, size_});
}

Tensor Chunks::chosen(const Tensor& index) const { return gather(x_, 1, unsqueeze(index, 2)); }

Tensor Chunks::first_rows() const { return first_.defined() ? chosen(first_) : slice(x_, 1, 0, count_ * size_, size_); }

Tensor Chunks::last_rows() const {
  return last_.defined() ? chosen(last_) : slice(x_, 1, size_ - 1, count_ * size_, size_);
}

Tensor Chunks::rows_before() const {
  if (before_.defined()) return chosen(before_);
  return pad(slice(x_, 1, size_ - 1, (count_ - 1) * size_ + (count_ == 1 ? size_ - 1 : 0), size_), 1, 1, 0);
}

Tensor Chunks::unfolded(const Tensor& heads) const {
  return transpose(reshape(transpose(heads, 1, 2), {batch(), count_ * size_, heads.size(1), heads.size(3)}), 1, 2);
}

Tensor Chunks::by_chunk(const Tensor& heads) const {
  return transpose(reshape(heads, {batch(), count_, heads.size(1), size_, heads.size(3)}), 1, 2);
}

Tensor Chunks::trimmed(const Tensor& heads) const {
  return heads.size(2) == positions_ ? heads : slice(heads, 2, 0, positions_);
}

Tensor ChunkPiece::of(const Tensor& x, int axis) const { return slice(rows(x), axis, from, to); }
Tensor ChunkPiece::rows(const Tensor& state) const { return slice(state, 0, begin, end); }

void for_pieces(std::span<const std::int64_t> seen, std::span<const std::int64_t> counts, std::int64_t chunk_size,
                const std::function<void(const ChunkPiece&)>& body) {
  const auto sequences = [&](std::size_t begin, std::size_t end) {
    for (std::int64_t from = 0; from < counts[begin];) {
      const std::int64_t position = seen[begin] + from, left = chunk_size - position % chunk_size;
      const std::int64_t to = std::min(counts[begin], from + left);
      body({static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end), from, to, position});
      from = to;
    }
  };
  const auto alike = [](std::span<const std::int64_t> values) {
    return std::all_of(values.begin(), values.end(), [&](std::int64_t value) { return value == values[0]; });
  };
  if (alike(seen) && alike(counts)) return sequences(0, seen.size());
  for (std::size_t b = 0; b < seen.size(); ++b) sequences(b, b + 1);
}

}  // namespace sq
