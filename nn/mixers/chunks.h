// nn/mixers/chunks.h: sequences cut into chunks of equal length.
#pragma once

#include "tensor/tensor.h"

#include <functional>
#include <span>

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
  /// |c|, the real positions of chunk c, and how many lie before it; f64 [B,n], or [1,n] where all rows are alike. Both
  /// at least 1, for they divide.
  const Tensor& real_positions() const { return real_; }
  const Tensor& real_before() const { return real_before_; }

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
  Tensor x_, mask_, exists_, real_, real_before_;
  Tensor first_, last_, before_;  // i64 [B,n], with a mask
};

/// Rows [from, to) of the new rows of the sequences [begin, end), which all lie in one chunk; the first one is at
/// `position` of its sequence.
struct ChunkPiece {
  std::int64_t begin, end, from, to, position;

  std::int64_t count() const { return to - from; }
  /// The part of x [B,t,...] or (axis 2) [B,H,t,...].
  Tensor of(const Tensor& x, int axis) const;
  /// The same sequences of a state [B,...].
  Tensor rows(const Tensor& state) const;
};

/// Decoding with chunks: calls body for pieces, in the order of positions, that end where a chunk or the new rows end.
/// Row b has seen[b] positions and gets counts[b] more. All sequences go together where they are alike.
void for_pieces(std::span<const std::int64_t> seen, std::span<const std::int64_t> counts, std::int64_t chunk_size,
                const std::function<void(const ChunkPiece&)>& body);

}  // namespace sq
