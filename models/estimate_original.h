// models/estimate_original.h: the numbers that the original HALO-S prints about itself, formula by formula, faults
// included. For comparing with published figures; models/estimate.h says what our models cost.
//
// V vocabulary, H hidden size, L layers, n_h and n_kv heads of D features, G globals, K neighbors, N tokens, S = N+G.
#pragma once

#include "models/checkpoints/halo_s.h"

namespace sq::original {

/// 2VH + GH + 2H + L(2(2H² + 2H·n_kv·D) + fH² + 4H), f = 12 with SwiGLU, else 8.
std::int64_t parameters(const OriginalHaloS& config);
/// Its dense baseline: 2VH + 2H + L(4H² + fH² + 4H).
std::int64_t baseline_parameters(const OriginalHaloS& config);

/// Operations of a forward pass. It counts N rows for the sparse attention, where S are computed, K neighbors where
/// fewer are seen, and keys and values of all S rows for the globals, which use their own only.
struct Flops {
  std::int64_t attention = 0;     // L(2NH(n_h·D + 2n_kv·D) + 4n_h·N·K·D + 2N·n_h·D·H)
  std::int64_t global = 0;        // L(2GH·n_h·D + 4SH·n_kv·D + 4n_h·G·S·D + 2G·n_h·D·H)
  std::int64_t feed_forward = 0;  // L·2S·H·4H·c
  std::int64_t lm_head = 0;       // 2NHV
  std::int64_t total() const { return attention + global + feed_forward + lm_head; }
  /// total / 10⁹, four decimals.
  double gigaflops() const;
};
/// The method of a model: c = 3 with SwiGLU, else 2.
Flops model_flops(const OriginalHaloS& config, std::int64_t tokens);
/// The function of a configuration alone, which forgets the third matrix of SwiGLU: always c = 2.
Flops standalone_flops(const OriginalHaloS& config, std::int64_t tokens);

/// MiB, two decimals: 4 bytes a parameter; a cache of two-byte keys and values that the original does not have.
struct Memory {
  double parameters_mb = 0;
  double kv_cache_mb = 0;
  double total_mb = 0;
};
Memory memory(const OriginalHaloS& config, std::int64_t batch, std::int64_t tokens);

/// The block of text that the original prints, memory at batch 1 and 1024 tokens.
std::string summary(const OriginalHaloS& config);

}  // namespace sq::original
