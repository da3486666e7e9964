// nn/feed_forward.h: the part of a layer that treats every position alone.
#pragma once

#include "nn/dropout.h"
#include "nn/linear.h"

#include <array>
#include <memory>
#include <string_view>

namespace sq {

enum class FeedForwardKind { swiglu, gelu, gelu_tanh };
constexpr std::array<std::string_view, 3> choices(FeedForwardKind) { return {"swiglu", "gelu", "gelu_tanh"}; }

/// First values of W₃. ones makes every gate the same sum of the input's features, which is 0 after a fresh LayerNorm:
/// the branch then starts dead. Here for the original HALO-S only.
enum class GateInit { uniform, ones };
constexpr std::array<std::string_view, 2> choices(GateInit) { return {"uniform", "ones"}; }

struct FeedForwardOptions {
  FeedForwardKind kind = FeedForwardKind::swiglu;
  std::int64_t width = 0;  // inner features; 0 = 8C/3 rounded up to a multiple of 64 for swiglu, 4C otherwise
  bool bias = false;
  double dropout = 0;                      // on the result
  double inner_dropout = 0;                // on the inner features, after the activation
  GateInit gate_init = GateInit::uniform;  // swiglu only; uniform = drawn like W₁
};

/// swiglu: W₂(SiLU(W₁x) ⊙ W₃x) (Shazeer 2020); gelu: W₂·GELU(W₁x), exact or in the tanh form (Hendrycks & Gimpel 2016).
/// Parameters w1.weight [F,C], w2.weight [C,F], w3.weight [F,C] (swiglu), with biases where asked.
class FeedForward : public Module {
 public:
  FeedForward(std::int64_t hidden_size, const FeedForwardOptions& options, Initializer& init);

  /// x [..., C] -> the same shape.
  Tensor forward(const Tensor& x) const;

  /// Matrix products for `rows` rows; a multiply-add counts two.
  std::int64_t flops(std::int64_t rows) const;

  /// F, with the rule behind 0 applied.
  static std::int64_t inner_width(std::int64_t hidden_size, const FeedForwardOptions& options);

 private:
  FeedForwardKind kind_;
  Linear w1_;
  Linear w2_;
  std::unique_ptr<Linear> w3_;
  Dropout inner_dropout_;
  Dropout dropout_;
};

}  // namespace sq
