// nn/mixers/chunks.h: sequences cut into chunks of equal length.
#pragma once

#include "tensor/tensor.h"

namespace sq {

/// Rows x [B,T,W] as n = ⌈T/C⌉ chunks of C positions, with zeros behind position T-1. A sequence shorter than a chunk
/// is one chunk of its own length. Where no mask is given all positions count as real, also those behind the sequence:
/// no position before them ever reads them.
class Chunks {
 public:
  /// mask: u8 [B,T], 1 at real positions, or undefined.
  Chunks(const Tensor& x, std::int64_t chunk_size, const Tensor& mask);

  std::int64_t batch() const { return x_.size(0); }
  std::int64_t positions() const { return positions_; }  // T
  std::int64_t size() const { return size_; }            // C
  std::int64_t count() const { return count_; }          // n

  /// [B,n·C,W].
  const Tensor& rows() const { return x_; }
  /// Every chunk a sequence of its own, [B·n,C,W]; no copy.
  Tensor folded() const;
  /// Positions of the folded rows within their sequences, i64 [B·n,C].
  Tensor folded_positions() const;

  /// The first and the last real row of each chunk, and the last real row before it; [B,n,W]. Any other row where there
  /// is none.
  Tensor first_rows() const;
  Tensor last_rows() const;
  Tensor rows_before() const;

  /// u8 [B,n·C] and u8 [B,n]: real positions, and chunks that have any. Undefined without a mask.
  const Tensor& mask() const { return mask_; }
  const Tensor& exists() const { return exists_; }
  /// 1/|c|, f64 [B,n], |c| the real positions of chunk c, at least 1; undefined without a mask: then all are 1/C.
  const Tensor& shares() const { return shares_; }

  // Between layouts of heads; no copies. Folded heads [B·n,H,C,D] lie in memory as [B,n·C,H,D].
  /// [B·n,H,C,D] -> [B,H,n·C,D].
  Tensor unfolded(const Tensor& heads) const;
  /// [B·n,H,C,D] -> [B,H,n,C,D].
  Tensor by_chunk(const Tensor& heads) const;
  /// [B,H,n·C,D] -> [B,H,T,D].
  Tensor trimmed(const Tensor& heads) const;

 private:
  void read_mask(const Tensor& mask);
  Tensor chosen(const Tensor& index) const;

  std::int64_t positions_, size_, count_;
  Tensor x_, mask_, exists_, shares_;
  Tensor first_, last_, before_;  // i64 [B,n], with a mask
};

}  // namespace sq
