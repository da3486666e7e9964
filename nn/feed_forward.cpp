#include "nn/feed_forward.h"

#include "ops/elementwise.h"
#include "ops/swiglu.h"

namespace sq {
namespace {

constexpr std::int64_t kWidthMultiple = 64;

std::unique_ptr<Linear> make_gate(std::int64_t in, std::int64_t out, const FeedForwardOptions& options,
                                  Initializer& init) {
  if (options.gate_init == GateInit::uniform) return std::make_unique<Linear>(in, out, options.bias, init);
  return std::make_unique<Linear>(init.ones({out, in}), options.bias ? init.bias(out, in) : Tensor());
}

}  // namespace

std::int64_t FeedForward::inner_width(std::int64_t hidden_size, const FeedForwardOptions& options) {
  if (options.width > 0) return options.width;
  if (options.kind != FeedForwardKind::swiglu) return 4 * hidden_size;
  const std::int64_t least = (8 * hidden_size + 2) / 3;
  return (least + kWidthMultiple - 1) / kWidthMultiple * kWidthMultiple;
}

FeedForward::FeedForward(std::int64_t hidden_size, const FeedForwardOptions& options, Initializer& init)
    : kind_(options.kind),
      w1_(hidden_size, inner_width(hidden_size, options), options.bias, init),
      w2_(inner_width(hidden_size, options), hidden_size, options.bias, init, LinearRole::residual_output),
      inner_dropout_(options.inner_dropout),
      dropout_(options.dropout) {
  add_module("w1", w1_);
  add_module("w2", w2_);
  if (kind_ == FeedForwardKind::swiglu) {
    w3_ = make_gate(hidden_size, inner_width(hidden_size, options), options, init);
    add_module("w3", *w3_);
  }
  add_module("inner_dropout", inner_dropout_);
  add_module("dropout", dropout_);
}

Tensor FeedForward::forward(const Tensor& x) const {
  const Tensor inner = w1_.forward(x);
  const Tensor active = kind_ == FeedForwardKind::swiglu
                            ? swiglu(inner, w3_->forward(x))
                            : gelu(inner, kind_ == FeedForwardKind::gelu ? Gelu::exact : Gelu::tanh);
  return dropout_.forward(w2_.forward(inner_dropout_.forward(active)));
}

std::int64_t FeedForward::flops(std::int64_t rows) const {
  return 2 * rows * (w1_.weight().numel() + w2_.weight().numel() + (w3_ ? w3_->weight().numel() : 0));
}

}  // namespace sq
