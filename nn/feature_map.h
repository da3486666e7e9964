// nn/feature_map.h: features φ of queries and keys, for attention that sums k·vᵀ instead of taking a softmax.
//
// Linear attention replaces e^(q·k/√d) by φ(q)·φ(k) (Katharopoulos et al. 2020, eq. 4). For x with d features:
//
//   identity         x                                                        d
//   elu_plus_1       elu(x) + 1: 1 + x where x > 0, else e^x                  d     Katharopoulos et al. 2020, eq. 7
//   relu             max(x, 0)                                                d
//   squared_relu     max(x, 0)²                                               d
//   exp              e^x                                                      d     overflows beyond 88 in f32
//   silu             x·σ(x)                                                   d
//   softmax          softmax over the d features                              d
//   hedgehog         softmax([2y, -2y]) with y = W·x + b                      2d    Zhang et al. 2024, Hedgehog
//   hadamard         (W₁·x + b₁) ∘ (W₂·x + b₂)                                d
//   t2r              relu(W·x)                                                d     Kasai et al. 2021, eq. 5
//   taylor2          [1, x/d^¼, x_a²/√(2d), x_a·x_b/√d for a < b]             1 + 2d + d(d-1)/2
//                    so that φ(q)·φ(k) = 1 + s + s²/2 with s = q·k/√d         Arora et al. 2024, Based
//   dpfp             y ∘ roll(y, j) for j = 1 … ν, y = relu([x, -x])          2dν   Schlag et al. 2021, eq. 38
//   favor_positive   e^(ω·z - ‖z‖²/2)/√R with z = x/d^¼, ω one of R rows      R     Choromanski et al. 2021, lemma 1
//
// roll(y, j)_i = y_(i-j), around the end. W, W₁, W₂ [d,d] and their biases are learned and shared by all heads. The R
// rows ω of favor_positive are drawn once, orthogonal in groups of d and of length √d, and stay (a buffer).
#pragma once

#include "nn/init.h"
#include "nn/module.h"

#include <array>
#include <string_view>

namespace sq {

enum class FeatureKind {
  identity,
  elu_plus_1,
  relu,
  squared_relu,
  exp,
  silu,
  softmax,
  hedgehog,
  hadamard,
  t2r,
  taylor2,
  dpfp,
  favor_positive
};
constexpr std::array<std::string_view, 13> choices(FeatureKind) {
  return {"identity", "elu_plus_1", "relu", "squared_relu", "exp",  "silu",          "softmax",
          "hedgehog", "hadamard",   "t2r",  "taylor2",      "dpfp", "favor_positive"};
}

/// Whether φ(q)·φ(k) >= 0 for all q and k. Only then may sums be divided by Σ φ(q)·φ(k), which might be 0 elsewhere.
bool has_positive_products(FeatureKind kind);

struct FeatureOptions {
  FeatureKind kind = FeatureKind::elu_plus_1;
  std::int64_t order = 3;             // ν of dpfp, less than 2d
  std::int64_t random_features = 64;  // R of favor_positive
};

/// Features of each row that has `width` of its own.
std::int64_t feature_width(const FeatureOptions& options, std::int64_t width);
/// Names and shapes of the learned parameters, in order; empty for most kinds.
std::vector<std::pair<std::string, Shape>> feature_parameters(const FeatureOptions& options, std::int64_t width);

/// φ of the last axis: x [..., d] -> [..., feature_width]. In the dtype of x; parameters are cast to it.
class FeatureMap : public Module {
 public:
  /// Throws Error when width < 1, order is outside 1 … 2·width-1 (dpfp) or random_features < 1 (favor_positive).
  FeatureMap(const FeatureOptions& options, std::int64_t width, Initializer& init);

  /// Throws Error when the last axis is not `width`.
  Tensor forward(const Tensor& x) const;

  const FeatureOptions& options() const { return options_; }

 private:
  Tensor affine(const Tensor& x, std::size_t first) const;
  Tensor random_exponentials(const Tensor& x) const;

  FeatureOptions options_;
  std::int64_t width_;
  std::vector<Tensor> parameters_;  // those of feature_parameters
  Tensor directions_;               // ω [R,d]
};

}  // namespace sq
