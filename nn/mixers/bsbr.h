// nn/mixers/bsbr.h: block-sparse attention with block retrieval (BSBR, the library of that name, 0.1.2): exact
// attention within a chunk, and for what lies before it a memory of each chunk, chosen by a softmax over chunks.
//
// Positions are cut into chunks of C; c(t) = ⌊t/C⌋. For every head, with q, k, v = W_q x, W_k x, W_v x of width D:
//   local_t     = Σ_{j<=t, c(j)=c(t)} softmax_j(q_t·k_j/√D) v_j
//   F_c         = Σ_{t in c} k_t v_tᵀ  [D,D]               what chunk c remembers; `mean`: divided by |c|·√D
//   h_c         = W_h x_{last of c},  r_c = W_r x_{first of c}   its key, and what asks for others
//   p_cc'       = softmax_{c'<c}(r_c·h_c'/√D)              over earlier chunks only: the own one is read locally, and
//                                                          its F and h hold later positions
//   retrieval_t = M_cᵀ q_t  with  M_c = Σ_{c'<c} p_cc' F_c',     y_t = W_o (local_t + α retrieval_t)
// `retriever`: `first`, r from the first row of a chunk; `prev`, from the row before the chunk, which is known when the
// chunk begins; `token`, r_t = W_r x_t and a mixture for every position. `compression_factor` f: F is kept as
// W_comp vec(F) + b, m = hidden_size / f numbers, and read as W_dec(·) + b: a map of rank m, for F_c as for mixtures,
// because the weights sum to 1. `gate`: α, a learned factor of each head, starting at 1 or at 0; without one α = 1.
//
// All of a training step is parallel over chunks: attention with chunks as sequences, F_c as products Kᵀ V, retrieval
// as ops/block_retrieval.h. Multiply-adds of a head for N positions, n = N/C chunks, beside the projections:
//   N·C·D (local) + 2N·D² (states, reading) + n²·D/2 (scores) + n²·D²/2 (mixing; `token`: N·n·D²/2)
// so that the cost is linear in N but for (N/C)²·D²/2: full attention's N²·D, times D/(2C²), which is 1/512 with D = 64
// and C = 128. `token` has no such small factor: N²·D·D/(2C). Memory: O(N·D) and n states of D² numbers, 1/(2C/D) of
// the keys and values; weights of chunks are never kept.
//
// Decoding keeps keys and values of the open chunk, at most C rows, and for each closed chunk h_c and F_c, D + D² (or
// D + m) numbers, besides F of the open chunk and its M: O(C·D + D²) time a position, and once in a chunk n·(D + D²).
// That is less than keys and values of all positions when C > D/2.
//
// Rotary positions turn the local q and k only, by the position within the sequence. r, h and the q and k of states are
// never turned: F_c is read from any distance.
//
// Take it where exact attention near by and a rough, trainable index of what is far away are enough, and the state must
// stay small; far reads are linear in q, so that recall of single positions out of long chunks is weaker than with
// softmax attention. `first` is the best all-round; `token` is the most expressive and the most expensive.
// `state_norm` none has the size of the original's retrieval, which at the start of training is 20 times (C = 32) to
// 120 times (C = 128) that of the local part. Dropout acts on the local weights. `faithful` is the original as it is
// (bsbr_faithful.h).
#pragma once

#include "nn/init.h"
#include "nn/mixers/attention.h"
#include "nn/mixers/bsbr_config.h"
#include "nn/mixers/chunks.h"
#include "nn/mixers/mixer.h"

#include <optional>

namespace sq {

/// What a BSBR layer computes on the way, for study.
struct BsbrParts {
  Tensor states;     // F_c [B,H,n,D,D] as it is read, or with compression f_c [B,H,n,m]
  Tensor h;          // [B,H,n,D]
  Tensor r;          // [B,H,n,D], or [B,H,T,D] with a retriever a position
  Tensor p;          // [B,H,n,n], or [B,H,T,n]
  Tensor local;      // [B,H,T,D]
  Tensor retrieval;  // [B,H,T,D], times α
};

/// Parameters attn.retrieval_gate [H] where asked; attn.{q,k,v,o}_proj; attn.meta_r_proj and attn.meta_h_proj, W_r and
/// W_h; attn.compress_proj and attn.decompress_proj where asked, the same for all heads.
class BsbrMixer : public Mixer {
 public:
  BsbrMixer(const BsbrConfig& config, const MixerContext& context, Initializer& init);

  bool can_step() const override { return !config_.faithful; }
  std::unique_ptr<MixerState> make_state(std::int64_t batch, std::int64_t capacity) const override;
  Cost cost(std::int64_t tokens) const override { return config_.cost(context_, tokens); }

  /// x [B,T,C]; mask u8 [B,T], 1 at real positions, or undefined: all. Needs memory for all pairs of chunks. Throws
  /// Error for a faithful mixer.
  BsbrParts parts(const Tensor& x, const Tensor& mask = {}) const;

 protected:
  Tensor mix(const Tensor& x, const Padding& padding) override;
  Tensor advance(const Tensor& x, MixerState& state, std::span<const std::int64_t> counts) override;

 private:
  struct State;
  struct Rows;  // a piece of the new rows

  std::int64_t width() const { return attn_.sizes().head_dim; }
  /// x [B,R,C] -> [B,H,R,D]
  Tensor heads(const Linear& projection, const Tensor& x) const;
  Tensor local(const Tensor& x, const Chunks& chunks, const Tensor& q, const Tensor& k, const Tensor& v) const;
  /// F_c, normed, and, with compression, f_c.
  Tensor memories(const Chunks& chunks, const Tensor& k, const Tensor& v) const;
  Tensor compressed(const Tensor& states, DType dtype) const;
  Tensor decompressed(const Tensor& states, DType dtype) const;
  Tensor retrievers(const Chunks& chunks) const;
  Tensor retrieve(const Chunks& chunks, const Tensor& q, const Tensor& states) const;
  Tensor gated(const Tensor& retrieval) const;

  Tensor mixture(const Tensor& r, const State& state, const Rows& rows, std::int64_t closed, DType dtype) const;
  void segment(const Rows& rows, State& state, Tensor& y) const;
  Tensor retrieve_next(const Rows& rows, State& state) const;
  void remember(const Rows& rows, State& state) const;

  BsbrConfig config_;
  MixerContext context_;
  Tensor gate_;
  Attention attn_;
  Linear meta_r_proj_;
  Linear meta_h_proj_;
  std::optional<Linear> compress_proj_;
  std::optional<Linear> decompress_proj_;
};

}  // namespace sq
