// tests/support/composed.h: every fused operation once more, put together from small ones that each carry a gradient of
// their own. Slower, easier to believe, and what the fused forms must equal, gradients included.
#pragma once

#include "autograd/engine.h"
#include "ops/adamw.h"
#include "ops/cross_entropy.h"
#include "ops/elementwise.h"
#include "ops/gather.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/support/compare.h"

namespace sq::test {

inline Tensor softmax_composed(const Tensor& x, int axis = -1) {
  const Tensor e = exp(x - max(x, {axis}, true));
  return e / sum(e, {axis}, true);
}

inline Tensor log_softmax_composed(const Tensor& x, int axis = -1) { return x - logsumexp(x, {axis}, true); }

inline Tensor rms_norm_composed(const Tensor& x, const Tensor& gain, double epsilon) {
  return x * pow(mean(x * x, {-1}, true) + epsilon, -0.5) * gain;
}

inline Tensor layer_norm_composed(const Tensor& x, const Tensor& gain, const Tensor& bias, double epsilon) {
  const Tensor centred = x - mean(x, {-1}, true);
  return centred / sqrt(mean(centred * centred, {-1}, true) + epsilon) * gain + bias;
}

inline Tensor swiglu_composed(const Tensor& gate, const Tensor& up) { return gate * sigmoid(gate) * up; }

/// x·cos + swap(x)·sin with swap([x₁;x₂]) = [-x₂;x₁]. positions [T].
inline Tensor rope_composed(const Tensor& x, const Tensor& positions, double base) {
  const std::int64_t width = x.size(-1), half = width / 2;
  std::vector<double> cosine, sine, sign;
  std::vector<std::int64_t> swap;
  for (const std::int64_t t : positions.to_vector<std::int64_t>())
    for (std::int64_t c = 0; c < width; ++c) {
      const double f = std::pow(base, -2.0 * static_cast<double>(c % half) / static_cast<double>(width));
      cosine.push_back(std::cos(static_cast<double>(t) * f));
      sine.push_back(std::sin(static_cast<double>(t) * f));
    }
  for (std::int64_t c = 0; c < width; ++c) {
    swap.push_back((c + half) % width);
    sign.push_back(c < half ? -1 : 1);
  }
  const Shape table{x.size(2), width};
  const Tensor swapped = index_select(x, 3, Tensor::from(swap, {width})) * Tensor::from(sign, {width});
  return x * Tensor::from(cosine, table) + swapped * Tensor::from(sine, table);
}

inline Tensor cross_entropy_composed(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  std::vector<std::int64_t> ids = targets.to_vector<std::int64_t>();
  std::vector<double> counts(ids.size(), 1);
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] == options.ignore_index) ids[i] = 0, counts[i] = 0;
  const auto rows = static_cast<std::int64_t>(ids.size());
  const Tensor z = reshape(logits, {rows, logits.size(-1)}), counted = Tensor::from(counts, {rows});
  const Tensor chosen = squeeze(gather(z, 1, Tensor::from(ids, {rows, 1})), 1);
  const double smoothing = options.label_smoothing;
  const Tensor losses = logsumexp(z, {1}) - chosen * (1 - smoothing) - mean(z, {1}) * smoothing;
  return sum(losses * counted) / sum(counted);
}

inline Tensor linear_cross_entropy_composed(const Tensor& x, const Tensor& weight, const Tensor& targets,
                                            const CrossEntropyOptions& options) {
  return cross_entropy_composed(linear(x, weight), targets, options);
}

/// One step of one slot; returns the new weight and averages.
inline std::vector<Tensor> adamw_composed(const AdamWSlot& slot, const AdamWOptions& o) {
  const double decay = slot.weight_decay.value_or(o.weight_decay), t = static_cast<double>(o.step);
  const Tensor g = slot.gradient * o.gradient_scale;
  const Tensor m = slot.exp_avg * o.beta1 + g * (1 - o.beta1), v = slot.exp_avg_sq * o.beta2 + g * g * (1 - o.beta2);
  const Tensor root = sqrt(v / (1 - std::pow(o.beta2, t))) + o.epsilon;
  const Tensor w = slot.weight * (1 - o.learning_rate * decay);
  return {w - o.learning_rate * (m / (1 - std::pow(o.beta1, t))) / root, m, v};
}

using Function = std::function<Tensor(const std::vector<Tensor>&)>;

/// Demands that both give the same values and, for a random cotangent, the same gradients. The inputs are f64.
inline void check_same_function(const Function& fused, const Function& plain, const std::vector<Tensor>& inputs) {
  const auto differentiate = [&](const Function& function) {
    std::vector<Tensor> leaves, results;
    for (const Tensor& input : inputs) {
      leaves.push_back(packed_copy(input));
      set_requires_grad(leaves.back());
    }
    const Tensor y = function(leaves);
    Generator generator(11);
    backward(y, randn(y.shape(), y.options(), generator));
    results.push_back(detach(y));
    for (const Tensor& leaf : leaves) results.push_back(grad(leaf));
    return results;
  };
  const std::vector<Tensor> got = differentiate(fused), want = differentiate(plain);
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);  // 0: the value; i: the gradient of input i - 1
    check_close(got[i], want[i]);
  }
}

}  // namespace sq::test
