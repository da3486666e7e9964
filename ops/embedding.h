// ops/embedding.h
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// y[…, :] = table[ids[…], :]: the row of the table that belongs to each id.
/// table [V,C] of any float dtype, ids i64 or i32 of any shape. Result [..., C].
/// Saves the ids.  dtable[v] = Σ of the dy rows whose id is v, added in order of position (16-bit floats in f32), so
/// the bits do not depend on the number of threads. The gradient is dense: every row of the table is written, unless
/// the table has a gradient already, such as that of a tied output matrix: then these rows are added to it in place.
/// Throws Error when the table is not a float matrix and when an id lies outside 0 … V-1, naming both.
/// The kernels are those of index_select (ops/gather.h).
Tensor embedding(const Tensor& table, const Tensor& ids);

}  // namespace sq
