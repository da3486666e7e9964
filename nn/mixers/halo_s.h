// nn/mixers/halo_s.h: attention over a short list of neighbors (HALO-S, BUEORM).
//
// Rows of x are [G global rows ; tokens], or with globals = summary G rows before every chunk of tokens
// (summary_layout.h). Tokens attend, with the projections attn.*, to the K rows that pattern.h lists for them. Global
// rows attend, with the projections global_attn.*, to the global rows up to themselves and, in summary mode, to the
// tokens of the chunk before their own. Cost and memory grow with T·K, not with T².
//
// Rotary positions: a token's is its row in [globals ; tokens]; a global row's is its row, or that of its chunk's first
// token. With rotate_globals = false scores against global rows are taken without rotation, on both sides.
//
// In the last layer nothing reads the global rows afterwards, so their attention is not computed: their result there is
// the output projection of zero, and global_attn.* gets no gradient.
#pragma once

#include "nn/init.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/halo_s_config.h"
#include "nn/mixers/mixer.h"
#include "nn/mixers/pattern.h"

#include <deque>

namespace sq {

/// Parameters attn.{q,k,v,o}_proj and, when G > 0, global_attn.{q,k,v,o}_proj.
class HaloSMixer : public Mixer {
 public:
  /// Throws Error when the model carries other global rows than `config` asks for.
  HaloSMixer(const HaloSConfig& config, const MixerContext& context, Initializer& init);

  /// False in the faithful graph, where every list depends on the total length.
  bool can_step() const override { return config_.graph == HaloGraph::causal; }
  /// Keys and values of attn for all rows; of global_attn for the global rows and, in summary mode, the tokens of the
  /// last two chunks.
  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  struct State;
  /// What a forward pass over S rows needs besides x.
  struct Plan {
    std::int64_t length = 0;  // S
    NeighborRows tokens;      // one query a row; global rows have no neighbors
    // Summary mode:
    NeighborRows summaries;           // one query a summary row
    std::int64_t summaries_read = 0;  // they read rows before this one only
    Tensor summary_rows;              // i64: which rows are summaries
    Tensor order;                     // i64 [S]: row r is row order[r] of [results of summaries ; results of all rows]
  };

  bool computes_globals() const { return global_attn_ && context_.layer + 1 < context_.num_layers; }
  bool is_global(std::int64_t row) const;
  /// Global rows among the first `rows` rows.
  std::int64_t global_count(std::int64_t rows) const;
  /// Rotary positions of rows as queries, or as keys.
  Tensor positions(std::span<const std::int64_t> rows, bool keys) const;
  /// How many leading columns of globals are scored without rotation.
  std::int64_t plain(std::int64_t columns) const { return config_.rotate_globals ? 0 : columns; }

  const Plan& plan(std::int64_t length);
  Plan make_plan(std::int64_t length) const;
  void plan_summaries(Plan& plan) const;
  NeighborTable token_table(std::int64_t length) const;
  /// One row of the causal graph; indices are rows of the sequence.
  NeighborTable token_neighbors(std::int64_t row) const;

  Tensor mix_alone(const Tensor& x);
  Tensor with_summaries(const Tensor& x, const Tensor& y, const Plan& plan) const;

  // One sequence of flattened batch rows: x [1,N,C], row n is row rows[n] of the sequence n / (N/B), -1 is padding.
  Tensor advance_rows(const Tensor& x, State& state, std::span<const std::int64_t> rows) const;
  void advance_globals(const Tensor& x, State& state, std::span<const std::int64_t> rows, Tensor& y) const;
  void fill_global_row(std::span<std::int32_t> out, std::int64_t row, std::int64_t columns, std::int64_t first_slot,
                       const State& state) const;

  HaloSConfig config_;
  MixerContext context_;
  Attention attn_;
  std::unique_ptr<Attention> global_attn_;
  std::deque<Plan> plans_;  // of the lengths seen last
};

}  // namespace sq
