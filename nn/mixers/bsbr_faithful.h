// nn/mixers/bsbr_faithful.h: BSBR as its library computes it, faults included, for weights that were trained with it.
#pragma once

#include "tensor/tensor.h"

#include <functional>

namespace sq {

/// Heads [B,H,T,D]. r and h are the projections of every row; those of chunks' last rows are used.
struct BsbrFaithful {
  Tensor q, k, v, r, h;
  Tensor local_q, local_k;                                    // q and k with rotary positions, if any
  std::function<Tensor(const Tensor&)> compress, decompress;  // of [...,D²] and [...,m]; none: no compression
};

/// What differs from bsbr.h, all of it in favour of the future:
///   local_t = Σ softmax over j >= t of the chunk, zeros that fill up the last chunk included
///   r_c = W_r x_{last of c},  M_c = Σ_{c'>=c} softmax(r_c·h_c'/√D) F_c': the own chunk and all later ones
/// F_c is not normed, padding is not looked at. Made of small operations: memory for all pairs of a chunk's positions
/// and of chunks. Result [B,H,T,D].
Tensor bsbr_faithful(const BsbrFaithful& in, std::int64_t chunk_size);

}  // namespace sq
