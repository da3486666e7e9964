// nn/mixers/real_rows.h: what recurrences need to know of padding: which rows are real, and where they stand.
#pragma once

#include "tensor/tensor.h"

#include <span>

namespace sq {

/// u8 [B,t]: 1 at the first counts[b] positions of row b; undefined when all are.
Tensor real_mask(std::span<const std::int64_t> counts, std::int64_t positions);

/// Heads [B,H,t,D] with zeros where `mask` (u8 [B,t], or undefined: nowhere) is 0; a NaN there goes too.
Tensor real_rows(const Tensor& heads, const Tensor& mask);

/// The same for one number a position and head, [B,H,t].
Tensor real_positions(const Tensor& numbers, const Tensor& mask);

/// i64 [B,t]: lengths[b], lengths[b]+1, …
Tensor next_positions(std::span<const std::int64_t> lengths, std::int64_t positions);

}  // namespace sq
