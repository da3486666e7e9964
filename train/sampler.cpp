#include "train/sampler.h"

#include "tensor/error.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace sq {
namespace {

constexpr double kGone = -std::numeric_limits<double>::infinity();

/// z ← softmax(z)
void softmax_in_place(std::vector<double>& z) {
  const double largest = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (double& value : z) sum += value = std::exp(value - largest);
  for (double& value : z) value /= sum;
}

void keep_top_k(std::vector<double>& z, std::int64_t k) {
  if (k <= 0 || k >= static_cast<std::int64_t>(z.size())) return;
  std::vector<double> sorted = z;
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  const double threshold = sorted[static_cast<std::size_t>(k - 1)];
  for (double& value : z)
    if (value < threshold) value = kGone;
}

void keep_top_p(std::vector<double>& z, double top_p) {
  if (top_p >= 1) return;
  std::vector<std::size_t> order(z.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return z[a] > z[b]; });
  std::vector<double> p = z;
  softmax_in_place(p);
  double before = p[order[0]];
  for (std::size_t rank = 1; rank < order.size(); ++rank) {
    if (before > top_p) z[order[rank]] = kGone;
    before += p[order[rank]];
  }
}

}  // namespace

void check_sampling(const SamplingOptions& options) {
  require_input(std::isfinite(options.temperature) && options.temperature >= 0, "sampling",
                "temperature {} must be a finite number of 0 or more", options.temperature);
  require_input(options.top_k >= 0, "sampling", "top_k {} must be 0 (off) or more", options.top_k);
  require_input(options.top_p > 0, "sampling", "top_p {} must be above 0; 1 is off", options.top_p);
}

std::vector<double> next_token_distribution(std::span<const float> logits, const SamplingOptions& options) {
  require(!logits.empty(), "sampling", "there are no logits");
  std::vector<double> z(logits.begin(), logits.end());
  const auto largest = std::max_element(z.begin(), z.end());
  const bool usable = std::none_of(z.begin(), z.end(), [](double v) { return std::isnan(v) || v == -kGone; });
  require(usable && *largest != kGone, "sampling", "the logits hold NaN or infinity; the model has diverged");
  if (options.temperature == 0) {
    std::vector<double> certain(z.size(), 0.0);
    certain[static_cast<std::size_t>(largest - z.begin())] = 1;
    return certain;
  }
  // Against the largest first: a tiny temperature then sends the others to -∞ and never everything to ∞.
  const double top = *largest;
  for (double& value : z) value = (value - top) / options.temperature;
  keep_top_k(z, options.top_k);
  keep_top_p(z, options.top_p);
  softmax_in_place(z);
  return z;
}

std::int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, double u) {
  const std::vector<double> p = next_token_distribution(logits, options);
  double sum = 0;
  std::int64_t last = 0;
  for (std::size_t token = 0; token < p.size(); ++token) {
    if (p[token] == 0) continue;
    last = static_cast<std::int64_t>(token);
    sum += p[token];
    if (sum > u) break;
  }
  return last;  // also where rounding leaves the total just below u
}

}  // namespace sq
