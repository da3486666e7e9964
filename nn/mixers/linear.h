// nn/mixers/linear.h: attention whose past is a sum, so that its memory does not grow.
//
// With features φ (nn/feature_map.h) instead of a softmax, per head (Katharopoulos et al. 2020, Transformers are RNNs,
// eq. 8 to 12; φ = elu + 1 and division by the normaliser are theirs):
//
//   S_t = S_{t-1} + φ(k_t) v_tᵀ [K,D],   z_t = z_{t-1} + φ(k_t) [K]
//   o_t = S_tᵀ φ(q_t) / (z_t·φ(q_t) + ε),   ε = 1e-6;   without `normalise`  o_t = S_tᵀ φ(q_t)
//
// which is o_t = Σ_{j<=t} (φ(q_t)·φ(k_j)) v_j / …: the parallel form, computed in chunks (ops/linear_attention.h). z is
// one more value column of ones. Where no feature is positive the divisor is ε and the result 0.
//
// A sum over the past knows no order. With rotary positions φ(q) and φ(k) are turned in the numerator and left as they
// are in the divisor, which so stays positive (Su et al. 2021, RoFormer, eq. 19).
//
// Cost for T positions, K features a head: time O(T·K·C), memory O(T·C + T/64·K·C), state H·K·(D+1) numbers whatever
// the length. Everything is added to one matrix and nothing leaves it: from about K pairs on, what is recalled of one
// is mixed with all the others (Schlag et al. 2021, section 4.1); delta_net mends that at the same size. Take it for
// long streams in which averages over the past suffice, and as the cheap layers of a hybrid.
//
// Without `normalise` results grow with t; `output_norm` brings them back to one size (nn/mixers/head_norm.h).
//
// With `conv_size` W > 0 a short convolution and silu come before all this (nn/mixers/convolved_heads.h).
//
// `faithful` computes what the BSBR library 0.1.2 computes under this name, where the outer product became an inner
// one: o_t = (Σ_{j<=t} k_j·v_j) (Σ_a q_ta), one number for all features of a head, without positions; for its
// checkpoints.
#pragma once

#include "nn/dropout.h"
#include "nn/feature_map.h"
#include "nn/fields.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/convolved_heads.h"
#include "nn/mixers/head_norm.h"
#include "nn/mixers/mixer.h"

#include <memory>

namespace sq {

struct LinearConfig {
  std::int64_t num_heads = 8;
  std::int64_t head_dim = 0;
  FeatureKind feature_map = FeatureKind::elu_plus_1;
  std::int64_t dpfp_order = 3;
  std::int64_t random_features = 64;
  bool normalise = true;
  std::int64_t conv_size = 0;
  bool output_norm = false;
  bool faithful = false;

  static constexpr auto fields() {
    using C = LinearConfig;
    return std::tuple{
        field("num_heads", &C::num_heads, "heads", {.min = 1, .max = 1 << 12}),
        field("head_dim", &C::head_dim, "features per head; 0 = hidden_size / num_heads", {.min = 0, .max = 1 << 12}),
        field("feature_map", &C::feature_map, "what queries and keys become before they are multiplied"),
        field("dpfp_order", &C::dpfp_order, "rolls of the feature map dpfp", {.min = 1, .max = 64}),
        field("random_features", &C::random_features, "features of the feature map favor_positive",
              {.min = 1, .max = 1 << 16}),
        field("normalise", &C::normalise,
              "divide by the sum of weights; only for maps whose products are never negative, and then the default"),
        field("conv_size", &C::conv_size,
              "positions that q, k and v of each are mixed from first; 0 = none, 4 is usual", {.min = 0, .max = 16}),
        field("output_norm", &C::output_norm, "scale each head's result to unit root mean square, with a learned gain"),
        field("faithful", &C::faithful, "what the BSBR library 0.1.2 computes: one running number a head"),
    };
  }

  AttentionPlan plan(const MixerContext& context) const;
  FeatureOptions features() const { return {feature_map, dpfp_order, random_features}; }

  void adapt_defaults(const Json& given);
  // Throw UsageError; see MixerEntry.
  void validate(std::string_view path) const;
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const { return {}; }
};

/// The sums that a linear mixer keeps, f32 (f64 in an f64 model).
class LinearState : public MixerState {
 public:
  /// `sums` as in sums().
  LinearState(const Mixer& owner, std::int64_t batch, std::int64_t capacity, Tensor sums, bool normalised,
              ConvolutionTails tails);
  std::int64_t bytes() const override;

  /// S [B,H,K,D]; in the faithful form the running number [B,H,1,1].
  Tensor memory() const;
  /// z [B,H,K]; undefined without normaliser.
  Tensor normaliser() const;

  /// [B,H,K,D], or [B,H,K,D+1] with z as the last column.
  const Tensor& sums() const { return sums_; }
  void replace(Tensor sums) { sums_ = std::move(sums); }
  ConvolutionTails& tails() { return tails_; }

 private:
  Tensor sums_;
  bool normalised_;
  ConvolutionTails tails_;
};

/// Parameters attn.{q,k,v,o}_proj, then where asked {q,k,v}_conv, then those of the feature maps, q_map.* and k_map.*,
/// then where asked o_norm.weight. Dropout acts on the result.
class LinearMixer : public Mixer {
 public:
  LinearMixer(const LinearConfig& config, const MixerContext& context, Initializer& init);

  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  struct Rows;
  struct Read;

  Rows rows(const HeadTriple& heads, const Tensor& mask) const;
  Read read(const Rows& rows, const Tensor& positions, const Tensor& sums) const;
  Read read_faithful(const Rows& rows, const Tensor& sums) const;
  Tensor output(const Tensor& heads, DType dtype) const;

  LinearConfig config_;
  MixerContext context_;
  Attention attn_;
  ConvolvedHeads heads_;
  std::unique_ptr<FeatureMap> q_map_, k_map_;  // null in the faithful form
  std::unique_ptr<HeadNorm> o_norm_;           // null unless asked for
  Dropout dropout_;
};

}  // namespace sq
