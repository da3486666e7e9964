#include "nn/mixers/convolved_heads.h"

#include "ops/view.h"

#include <algorithm>

namespace sq {
namespace {

/// f of heads [B,H,T,D] seen as rows [B,T,H·D], as they lie in memory.
template <class F>
Tensor as_rows(const Tensor& heads, F&& f) {
  const Tensor rows = transpose(heads, 1, 2);  // [B,T,H,D]
  const Tensor y = f(reshape(rows, {rows.size(0), rows.size(1), rows.size(2) * rows.size(3)}));
  return transpose(reshape(y, rows.shape()), 1, 2);
}

}  // namespace

std::int64_t ConvolutionTails::bytes() const { return q.defined() ? 3 * q.numel() * item_size(q.dtype()) : 0; }

ConvolvedHeads::ConvolvedHeads(const AttentionPlan& sizes, std::int64_t taps, Initializer& init)
    : channels_(sizes.num_heads * sizes.head_dim) {
  if (taps == 0) return;
  q_conv_ = std::make_unique<ShortConvolution>(channels_, taps, init);
  k_conv_ = std::make_unique<ShortConvolution>(channels_, taps, init);
  v_conv_ = std::make_unique<ShortConvolution>(channels_, taps, init);
  add_module("q_conv", *q_conv_);
  add_module("k_conv", *k_conv_);
  add_module("v_conv", *v_conv_);
}

HeadTriple ConvolvedHeads::forward(const Attention& attn, const Tensor& x, const Tensor& mask) const {
  const HeadTriple heads{attn.queries(x), attn.keys(x), attn.values(x)};
  if (!q_conv_) return heads;
  const auto convolved = [&](const Tensor& h, const ShortConvolution& layer) {
    return as_rows(h, [&](const Tensor& rows) { return layer.forward(rows, mask); });
  };
  return {convolved(heads.q, *q_conv_), convolved(heads.k, *k_conv_), convolved(heads.v, *v_conv_)};
}

HeadTriple ConvolvedHeads::step(const Attention& attn, const Tensor& x, ConvolutionTails& tails,
                                std::span<const std::int64_t> counts) const {
  const HeadTriple heads{attn.queries(x), attn.keys(x), attn.values(x)};
  if (!q_conv_) return heads;
  const auto convolved = [&](const Tensor& h, const ShortConvolution& layer, Tensor& tail) {
    return as_rows(h, [&](const Tensor& rows) { return layer.step(rows, tail, counts); });
  };
  return {convolved(heads.q, *q_conv_, tails.q), convolved(heads.k, *k_conv_, tails.k),
          convolved(heads.v, *v_conv_, tails.v)};
}

ConvolutionTails ConvolvedHeads::empty_tails(std::int64_t batch, TensorOptions options) const {
  if (!q_conv_) return {};
  const Shape shape{batch, q_conv_->taps() - 1, channels_};
  return {Tensor::zeros(shape, options), Tensor::zeros(shape, options), Tensor::zeros(shape, options)};
}

NamedShapes ConvolvedHeads::parameters(const AttentionPlan& sizes, std::int64_t taps) {
  if (taps == 0) return {};
  const Shape shape{sizes.num_heads * sizes.head_dim, taps};
  return {{"q_conv.weight", shape}, {"k_conv.weight", shape}, {"v_conv.weight", shape}};
}

double ConvolvedHeads::flops(const AttentionPlan& sizes, std::int64_t taps, std::int64_t rows) {
  return product({6, rows, sizes.num_heads, sizes.head_dim, taps});
}

std::int64_t ConvolvedHeads::tail_bytes(const AttentionPlan& sizes, std::int64_t taps) {
  return 4 * 3 * std::max<std::int64_t>(0, taps - 1) * sizes.num_heads * sizes.head_dim;
}

}  // namespace sq
