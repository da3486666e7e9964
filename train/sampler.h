// train/sampler.h: from logits to the next token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sq {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the largest logit, top_k and top_p do not matter
  std::int64_t top_k = 0;    // 0: off
  double top_p = 1.0;        // 1 and above: off
};

/// Throws UsageError unless temperature is finite and >= 0, top_k >= 0 and top_p > 0.
void check_sampling(const SamplingOptions& options);

/// The distribution that the next token is drawn from, computed in f64:
///   1. temperature 0: all on the first of the largest logits. Else z ← z / temperature;
///   2. top_k: everything below the k-th largest z goes (equal values stay);
///   3. top_p: in descending order of p = softmax(z), ties by index, an entry goes when the sum before it exceeds top_p
///      (Holtzman et al. 2020, "nucleus sampling"); the first always stays;
///   4. softmax over what is left.
/// Throws Error when a logit is NaN or +∞ or all are -∞.
std::vector<double> next_token_distribution(std::span<const float> logits, const SamplingOptions& options);

/// Draws from that distribution with one uniform number u in [0,1): the first token whose running sum exceeds u.
std::int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, double u);

}  // namespace sq
