#include "nn/mixers/real_rows.h"

#include "ops/elementwise.h"
#include "ops/view.h"

#include <algorithm>

namespace sq {

Tensor real_mask(std::span<const std::int64_t> counts, std::int64_t positions) {
  if (std::all_of(counts.begin(), counts.end(), [&](std::int64_t count) { return count == positions; })) return {};
  std::vector<std::uint8_t> mask;
  for (const std::int64_t count : counts)
    for (std::int64_t t = 0; t < positions; ++t) mask.push_back(t < count ? 1 : 0);
  return Tensor::from(mask, {static_cast<std::int64_t>(counts.size()), positions});
}

Tensor real_rows(const Tensor& heads, const Tensor& mask) {
  if (!mask.defined()) return heads;
  return where(reshape(mask, {mask.size(0), 1, mask.size(1), 1}), heads, Tensor::zeros({}, heads.options()));
}

Tensor real_positions(const Tensor& numbers, const Tensor& mask) {
  return mask.defined() ? squeeze(real_rows(unsqueeze(numbers, 3), mask), 3) : numbers;
}

Tensor next_positions(std::span<const std::int64_t> lengths, std::int64_t positions) {
  std::vector<std::int64_t> all;
  for (const std::int64_t length : lengths)
    for (std::int64_t t = 0; t < positions; ++t) all.push_back(length + t);
  return Tensor::from(all, {static_cast<std::int64_t>(lengths.size()), positions});
}

}  // namespace sq
