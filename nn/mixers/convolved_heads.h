// nn/mixers/convolved_heads.h: queries, keys and values that know the positions just before theirs.
//
// A recurrence writes each position on its own; with a short convolution on q, k and v a key can stand for a pair of
// tokens and find what came after it (Gu & Dao 2023, Mamba; Yang et al. 2024, delta rule), which recall tasks need.
#pragma once

#include "nn/mixers/attention.h"
#include "nn/short_convolution.h"

#include <memory>
#include <span>

namespace sq {

/// Heads [B,H,T,D].
struct HeadTriple {
  Tensor q, k, v;
};

/// The W-1 inputs before the next position for each of the three convolutions, [B,W-1,H·D]; undefined without them.
struct ConvolutionTails {
  Tensor q, k, v;

  std::int64_t bytes() const;
};

/// Parameters {q,k,v}_conv.weight [H·D,W]; none, and no change to the heads, where W = 0.
class ConvolvedHeads : public Module {
 public:
  ConvolvedHeads(const AttentionPlan& sizes, std::int64_t taps, Initializer& init);

  /// What `attn` makes of x [B,T,C]. Rows where `mask` (u8 [B,T], or undefined) is 0 leave no trace in others.
  HeadTriple forward(const Attention& attn, const Tensor& x, const Tensor& mask) const;
  /// The same for the next positions, of which the first counts[b] are real.
  HeadTriple step(const Attention& attn, const Tensor& x, ConvolutionTails& tails,
                  std::span<const std::int64_t> counts) const;
  /// Zeros for `batch` rows.
  ConvolutionTails empty_tails(std::int64_t batch, TensorOptions options) const;

  // Before there are tensors:
  static NamedShapes parameters(const AttentionPlan& sizes, std::int64_t taps);
  static double flops(const AttentionPlan& sizes, std::int64_t taps, std::int64_t rows);
  static std::int64_t tail_bytes(const AttentionPlan& sizes, std::int64_t taps);

 private:
  std::int64_t channels_;
  std::unique_ptr<ShortConvolution> q_conv_, k_conv_, v_conv_;  // all or none
};

}  // namespace sq
