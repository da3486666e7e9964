// nn/mixers/bsbr_decoding.cpp: continuing a sequence. New rows are taken in pieces that end where a chunk ends: a piece
// attends to the rows of its chunk, reads the mixture of the closed chunks, and adds to the memory of its own, which is
// kept once the chunk is full.
#include "nn/mixers/bsbr.h"
#include "nn/mixers/cached_attention.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/softmax.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

/// In the layout [B,H,t,D] of a tensor [B,t,H,D].
Tensor as_heads(const Tensor& x) {
  const Shape &n = x.shape(), &s = x.strides();
  return x.alias({n[0], n[2], n[1], n[3]}, {s[0], s[2], s[1], s[3]}, 0);
}

std::int64_t bytes_of(const Tensor& x) { return x.defined() ? x.numel() * item_size(x.dtype()) : 0; }

}  // namespace

struct BsbrMixer::State : MixerState {
  State(const BsbrMixer& owner, std::int64_t batch, std::int64_t capacity)
      : MixerState(owner, batch, capacity),
        cache(batch, std::min(capacity, owner.config_.chunk_size), owner.attn_.sizes(), owner.attn_.tensor_options()),
        kept(owner.config_.closed_chunks(capacity)) {
    if (kept == 0) return;
    TensorOptions options = owner.attn_.tensor_options();
    if (is_half(options.dtype)) options.dtype = DType::f32;
    const std::int64_t heads = owner.config_.num_heads, d = owner.width();
    keys = Tensor::zeros({batch, heads, kept, d}, options);
    memories = Tensor::zeros({batch, heads, kept, owner.config_.memory_size(owner.context_)}, options);
    open = Tensor::zeros({batch, heads, d, d}, options);
    if (owner.config_.retriever != BsbrRetriever::token) mixture = Tensor::zeros({batch, heads, d, d}, options);
  }
  std::int64_t bytes() const override {
    return cache.bytes() + bytes_of(keys) + bytes_of(memories) + bytes_of(open) + bytes_of(mixture);
  }

  KvCache cache;      // of the open chunk: position t in slot t mod C
  std::int64_t kept;  // chunks that can be closed and read again
  Tensor keys;        // h of the closed chunks [B,H,kept,D]
  Tensor memories;    // F or f of the closed chunks [B,H,kept,D² or m]
  Tensor open;        // Σ k vᵀ of the open chunk [B,H,D,D]
  Tensor mixture;     // M of the open chunk [B,H,D,D]
};

struct BsbrMixer::Rows {
  ChunkPiece piece;
  Tensor x, q, k, v, local_q, local_k;  // of these rows: [b,s,C] and [b,H,s,D]

  std::int64_t count() const { return piece.count(); }
  std::int64_t position() const { return piece.position; }
  Tensor of(const Tensor& state) const { return piece.rows(state); }
};

std::unique_ptr<MixerState> BsbrMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  require(can_step(), "bsbr",
          "the faithful form reads later positions and cannot continue a sequence; set faithful to "
          "false");
  return std::make_unique<State>(*this, batch, capacity);
}

/// M = Σ_c p_c F_c over the closed chunks for retrievers r [b,H,s,D] -> [b,H,s,D,D].
Tensor BsbrMixer::mixture(const Tensor& r, const State& state, const Rows& rows, std::int64_t closed,
                          DType dtype) const {
  const Tensor keys = slice(rows.of(state.keys), 2, 0, closed), memories = slice(rows.of(state.memories), 2, 0, closed);
  const Tensor asks = cast(r, keys.dtype());
  const Tensor scores = mul(matmul(asks, transpose(keys, 2, 3)), 1 / std::sqrt(static_cast<double>(width())));
  const Tensor mixed = matmul(softmax(scores), memories);
  if (config_.compresses()) return decompressed(mixed, dtype);
  return reshape(mixed, {mixed.size(0), mixed.size(1), mixed.size(2), width(), width()});
}

/// What the rows of a piece read from the closed chunks, of which there is one at least.
Tensor BsbrMixer::retrieve_next(const Rows& rows, State& state) const {
  const std::int64_t closed = rows.position() / config_.chunk_size;
  const Tensor q = cast(rows.q, state.open.dtype());
  if (config_.retriever == BsbrRetriever::token) {
    const Tensor each = mixture(heads(meta_r_proj_, rows.x), state, rows, closed, rows.x.dtype());
    return cast(squeeze(matmul(unsqueeze(q, 3), each), 3), rows.q.dtype());
  }
  Tensor own = rows.of(state.mixture);
  if (config_.retriever == BsbrRetriever::first && rows.position() % config_.chunk_size == 0)
    copy_(own, squeeze(mixture(heads(meta_r_proj_, slice(rows.x, 1, 0, 1)), state, rows, closed, rows.x.dtype()), 2));
  return cast(matmul(q, own), rows.q.dtype());
}

/// The piece becomes part of the open chunk, which is closed when it is full.
void BsbrMixer::remember(const Rows& rows, State& state) const {
  const std::int64_t size = config_.chunk_size, number = rows.position() / size, last = rows.count() - 1;
  if (number >= state.kept) return;
  Tensor open = rows.of(state.open);
  const Tensor added = matmul(transpose(cast(rows.k, open.dtype()), 2, 3), cast(rows.v, open.dtype()));
  if (rows.position() % size == 0)
    copy_(open, added);
  else
    accumulate_(open, added);
  if ((rows.position() + rows.count()) % size != 0) return;

  const double norm = config_.state_norm == BsbrStateNorm::mean
                          ? 1 / (static_cast<double>(size) * std::sqrt(static_cast<double>(width())))
                          : 1;
  const Tensor whole = unsqueeze(mul(open, norm), 2), x = slice(rows.x, 1, last, last + 1);
  Tensor memory = slice(rows.of(state.memories), 2, number, number + 1);
  copy_(memory, config_.compresses() ? compressed(whole, rows.x.dtype()) : reshape(whole, memory.shape()));
  Tensor key = slice(rows.of(state.keys), 2, number, number + 1);
  copy_(key, heads(meta_h_proj_, x));
  if (config_.retriever != BsbrRetriever::prev) return;
  Tensor next = rows.of(state.mixture);
  copy_(next, squeeze(mixture(heads(meta_r_proj_, x), state, rows, number + 1, rows.x.dtype()), 2));
}

void BsbrMixer::segment(const Rows& rows, State& state, Tensor& y) const {
  const auto [begin, end, from, to, position] = rows.piece;
  const std::int64_t slot = position % config_.chunk_size, filled = slot + rows.count();
  std::vector<std::int64_t> places;
  for (std::int64_t b = begin; b < end; ++b)
    for (std::int64_t s = slot; s < filled; ++s) places.push_back(b * state.cache.slots() + s);
  state.cache.put(rows.local_k, rows.v, places);
  Tensor result =
      dense_attention(rows.local_q, state.cache.keys(begin, end, filled), state.cache.values(begin, end, filled), {});
  if (position >= config_.chunk_size) result = add(result, gated(retrieve_next(rows, state)));
  Tensor target = rows.piece.of(y, 2);
  copy_(target, result);
  remember(rows, state);
}

Tensor BsbrMixer::advance(const Tensor& x, MixerState& given, std::span<const std::int64_t> counts) {
  State& state = static_cast<State&>(given);
  const std::int64_t batch = x.size(0), t = x.size(1);
  const NewRows places({state.lengths(), counts}, t, state.cache.slots());
  const Tensor q = attn_.queries(x), k = attn_.keys(x), v = attn_.values(x);
  const Tensor local_q = attn_.rotate(q, places.positions), local_k = attn_.rotate(k, places.positions);
  Tensor y = as_heads(Tensor::zeros({batch, t, q.size(1), q.size(3)}, q.options()));
  for_pieces(state.lengths(), counts, config_.chunk_size, [&](const ChunkPiece& piece) {
    segment({.piece = piece,
             .x = piece.of(x, 1),
             .q = piece.of(q, 2),
             .k = piece.of(k, 2),
             .v = piece.of(v, 2),
             .local_q = piece.of(local_q, 2),
             .local_k = piece.of(local_k, 2)},
            state, y);
  });
  return attn_.output(y);
}

}  // namespace sq
