// nn/mixers/gau.h: a gated attention unit, as the BSBR library has it (after Hua et al. 2022, Transformer Quality in
// Linear Time): one wide head, exact attention within chunks, a linear memory of all earlier chunks, and a gate.
//
// q, k, v = W_q x, W_k x, W_v x and the gate g = σ(W_g x) have the width E = expansion_factor · hidden_size. With
// chunks of C positions, c(t) = ⌊t/C⌋:
//   local_t = Σ_{j<=t, c(j)=c(t)} softmax_j(q_t·k_j/√E) v_j
//   cross_t = a_c Sᵀ_c q_t,   S_c = Σ_{c'<c} K_c'ᵀ V_c' = S_{c-1} + K_{c-1}ᵀ V_{c-1}   [E,E]
//   y_t     = W_o (g_t ∘ (local_t + cross_t))
// `scaled`: a_c = 1/(N_c·√E), N_c the positions before the chunk, which makes the cross term a mean like the local one,
// whatever the length. Not scaled, a = 1, is the original: a plain sum over the past that outgrows the local term a
// thousandfold within a few thousand positions.
//
// Training runs all chunks' attention at once, as sequences, and the memory from chunk to chunk
// (ops/block_linear_attention.h). Multiply-adds for N positions beside the five projections: N·C·E (local) + 2N·E²
// (cross), linear in N. Memory O(N·E) and one state E² at a time. Decoding keeps keys and values of the open chunk, at
// most C rows, and S: 2C·E + E² numbers (3C·E with rotary positions, since S remembers keys that are not turned),
// O(C·E + E²) time a position.
//
// Rotary positions turn the local q and k only. Dropout acts on the local weights.
//
// Take it where an attention layer and a feed-forward layer may be one: the gate makes it the wider half of a block,
// and the single head keeps it simple. Its memory is a plain sum, without features or forgetting: for recall over long
// texts a delta rule or block retrieval is stronger for less than E² numbers.
#pragma once

#include "nn/fields.h"
#include "nn/init.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/chunks.h"
#include "nn/mixers/mixer.h"

namespace sq {

struct GauConfig {
  std::int64_t expansion_factor = 2;
  std::int64_t chunk_size = 128;
  bool scaled = true;

  static constexpr auto fields() {
    using C = GauConfig;
    return std::tuple{
        field("expansion_factor", &C::expansion_factor, "width of the head in hidden_sizes", {.min = 1, .max = 64}),
        field("chunk_size", &C::chunk_size, "positions that attend to each other exactly", {.min = 1, .max = 1 << 24}),
        field("scaled", &C::scaled, "what is read of earlier chunks is a mean, not a sum"),
    };
  }

  /// One head of width E.
  AttentionPlan plan(const MixerContext& context) const;

  // Throw UsageError; see MixerEntry.
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const { return {}; }
};

/// What a GAU layer computes on the way, for study.
struct GauParts {
  Tensor local;  // [B,1,T,E]
  Tensor cross;  // [B,1,T,E], times a
  Tensor state;  // Σ k vᵀ over all real positions [B,E,E]
};

/// Parameters attn.{q,k,v,o}_proj and attn.gate_proj, W_g.
class GauMixer : public Mixer {
 public:
  GauMixer(const GauConfig& config, const MixerContext& context, Initializer& init);

  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

  /// x [B,T,C]; mask u8 [B,T], 1 at real positions, or undefined: all.
  GauParts parts(const Tensor& x, const Tensor& mask = {}) const;

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  struct State;

  std::int64_t width() const { return attn_.sizes().head_dim; }
  Tensor local(const Chunks& chunks, const Tensor& q, const Tensor& k, const Tensor& v) const;
  Tensor cross(const Chunks& chunks, const Tensor& q, const Tensor& k, const Tensor& v) const;
  Tensor output(const Tensor& x, const Tensor& heads) const;

  GauConfig config_;
  MixerContext context_;
  Attention attn_;
  Linear gate_proj_;
};

}  // namespace sq
