#include "nn/mixers/gau.h"

#include "nn/mixers/cached_attention.h"
#include "nn/mixers/masked_keys.h"
#include "nn/mixers/registry.h"
#include "ops/block_linear_attention.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

/// The memory is a long sum: 16-bit floats are summed in f32.
Tensor wide(const Tensor& x) { return is_half(x.dtype()) ? cast(x, DType::f32) : x; }

/// k with zeros at positions that are not real, which then leave nothing in a memory. k [B,1,n·C,E].
Tensor real_keys(const Chunks& chunks, const Tensor& k) {
  if (!chunks.mask().defined()) return k;
  return where(reshape(chunks.mask(), {k.size(0), 1, k.size(2), 1}), k, Tensor::zeros({}, k.options()));
}

}  // namespace

AttentionPlan GauConfig::plan(const MixerContext& context) const {
  return {context.hidden_size, 1, 1, expansion_factor * context.hidden_size};
}

void GauConfig::check(const MixerContext& context, std::string_view path) const {
  constexpr std::int64_t kWidest = 1 << 18;
  require_input(plan(context).head_dim <= kWidest, "config",
                "{} is {} but times hidden_size, which is {}, it must be at most {}",
                join_path(path, "expansion_factor"), expansion_factor, context.hidden_size, kWidest);
  check_rotary(plan(context).head_dim, context.rope, path);
}

NamedShapes GauConfig::parameters(const MixerContext& context) const {
  const AttentionPlan a = plan(context);
  NamedShapes shapes = a.parameters("attn", context.bias);
  shapes.emplace_back("attn.gate_proj.weight", Shape{a.head_dim, context.hidden_size});
  if (context.bias) shapes.emplace_back("attn.gate_proj.bias", Shape{a.head_dim});
  return shapes;
}

/// Pairs within chunks, and for all rows but those of the first and the last chunk the memory written and read.
Cost GauConfig::cost(const MixerContext& context, std::int64_t tokens) const {
  const AttentionPlan a = plan(context);
  const std::int64_t rows = context.globals.total(tokens), size = std::min(chunk_size, rows);
  const std::int64_t whole = size > 0 ? rows / size : 0, rest = rows - whole * size;
  const std::int64_t pairs = whole * (size * (size + 1) / 2) + rest * (rest + 1) / 2;
  Cost cost{
      .parameters = count_elements(parameters(context)),
      .forward_flops = 2 * a.query_flops(rows) + a.key_value_flops(rows) + a.pair_flops(pairs) + a.output_flops(rows),
      .state_bytes = a.cache_bytes(size)};
  if (rows <= chunk_size) return cost;
  const std::int64_t closed = (rows - 1) / chunk_size * chunk_size;
  cost.forward_flops += product({2, closed + rows - chunk_size, a.head_dim, a.head_dim});
  cost.state_bytes += 4 * a.head_dim * (a.head_dim + (context.rope ? size : 0));
  return cost;
}

GauMixer::GauMixer(const GauConfig& config, const MixerContext& context, Initializer& init)
    : config_(config),
      context_(context),
      attn_(AttentionOptions::in_model(context, 1, 1, config.plan(context).head_dim), init),
      gate_proj_(context.hidden_size, width(), context.bias, init) {
  add_module("attn", attn_);
  add_module("attn.gate_proj", gate_proj_);
}

Tensor GauMixer::local(const Chunks& chunks, const Tensor& q, const Tensor& k, const Tensor& v) const {
  ScoredRows rows{.q = q, .k = k, .scale = 0};
  if (context_.rope) {
    const Tensor positions = chunks.folded_positions();
    rows = {.q = attn_.rotate(q, positions), .k = attn_.rotate(k, positions), .scale = 0};
  }
  if (chunks.mask().defined()) rows = without_masked_keys(rows, reshape(chunks.mask(), {k.size(0), k.size(2)}));
  return chunks.unfolded(dense_attention(rows.q, rows.k, v, {.scale = rows.scale, .dropout = attn_.dropout_rate()}));
}

/// a_c Sᵀ_c q_t; a goes to the queries.
Tensor GauMixer::cross(const Chunks& chunks, const Tensor& q, const Tensor& k, const Tensor& v) const {
  Tensor queries = wide(chunks.unfolded(q));
  if (config_.scaled) {
    const double root = 1 / std::sqrt(static_cast<double>(width()));
    const Tensor a = cast(div(root, chunks.real_before()), queries.dtype());
    queries = reshape(mul(wide(chunks.by_chunk(q)), reshape(a, {a.size(0), 1, a.size(1), 1, 1})), queries.shape());
  }
  const Tensor keys = real_keys(chunks, wide(chunks.unfolded(k)));
  return cast(block_linear_attention(queries, keys, wide(chunks.unfolded(v)), chunks.size()), q.dtype());
}

/// W_o (g ∘ heads) for heads [B,1,T,E] of the rows x [B,T,C].
Tensor GauMixer::output(const Tensor& x, const Tensor& heads) const {
  return attn_.output(mul(heads, unsqueeze(sigmoid(gate_proj_.forward(x)), 1)));
}

Tensor GauMixer::mix(const Tensor& x, const Padding& padding) {
  // Padding at the end is never read by a real position.
  const Chunks chunks(x, config_.chunk_size, padding.mask);
  const Tensor folded = chunks.folded();
  const Tensor q = attn_.queries(folded), k = attn_.keys(folded), v = attn_.values(folded);
  Tensor y = local(chunks, q, k, v);
  if (chunks.count() > 1) y = add(y, cross(chunks, q, k, v));
  return output(x, chunks.trimmed(y));
}

GauParts GauMixer::parts(const Tensor& x, const Tensor& mask) const {
  const Tensor real = mask.defined() ? mask : Tensor::ones({x.size(0), x.size(1)}, {DType::u8, x.device()});
  const Chunks chunks(x, config_.chunk_size, real);
  const Tensor folded = chunks.folded();
  const Tensor q = attn_.queries(folded), k = attn_.keys(folded), v = attn_.values(folded);
  const Tensor keys = real_keys(chunks, wide(chunks.unfolded(k)));
  return {.local = chunks.trimmed(local(chunks, q, k, v)),
          .cross = chunks.trimmed(cross(chunks, q, k, v)),
          .state = squeeze(matmul(transpose(keys, 2, 3), wide(chunks.unfolded(v))), 1)};
}

struct GauMixer::State : MixerState {
  State(const GauMixer& owner, std::int64_t batch, std::int64_t capacity)
      : MixerState(owner, batch, capacity),
        cache(batch, std::min(capacity, owner.config_.chunk_size), owner.attn_.sizes(), owner.attn_.tensor_options()),
        kept((capacity - 1) / owner.config_.chunk_size) {
    if (kept == 0) return;
    TensorOptions options = owner.attn_.tensor_options();
    if (owner.context_.rope) plain_keys = Tensor::zeros({batch, 1, cache.slots(), owner.width()}, options);
    if (is_half(options.dtype)) options.dtype = DType::f32;
    memory = Tensor::zeros({batch, 1, owner.width(), owner.width()}, options);
  }
  std::int64_t bytes() const override {
    const auto of = [](const Tensor& x) { return x.defined() ? x.numel() * item_size(x.dtype()) : 0; };
    return cache.bytes() + of(plain_keys) + of(memory);
  }

  /// The new keys k [b,1,s,E] of a piece, as they are and turned, and its values; a chunk that becomes full goes to the
  /// memory.
  void put(const ChunkPiece& piece, std::int64_t chunk_size, const Tensor& k, const Tensor& turned, const Tensor& v) {
    const std::int64_t slot = piece.position % chunk_size;
    std::vector<std::int64_t> places;
    for (std::int64_t b = piece.begin; b < piece.end; ++b)
      for (std::int64_t i = 0; i < piece.count(); ++i) places.push_back(b * cache.slots() + slot + i);
    cache.put(turned, v, places);
    if (!plain_keys.defined()) return;
    Tensor target = slice(piece.rows(plain_keys), 2, slot, slot + piece.count());
    copy_(target, k);
  }
  /// What is in the cache goes to the memory where the piece has filled a chunk that will be read again.
  void close(const ChunkPiece& piece, std::int64_t chunk_size) {
    if ((piece.position + piece.count()) % chunk_size != 0 || piece.position / chunk_size >= kept) return;
    const Tensor keys =
        plain_keys.defined() ? piece.rows(plain_keys) : cache.keys(piece.begin, piece.end, cache.slots());
    const Tensor values = cache.values(piece.begin, piece.end, cache.slots());
    Tensor own = piece.rows(memory);
    accumulate_(own, matmul(transpose(cast(keys, own.dtype()), 2, 3), cast(values, own.dtype())));
  }

  KvCache cache;      // of the open chunk: position t in slot t mod C
  std::int64_t kept;  // chunks that can be closed and read again
  Tensor plain_keys;  // keys without rotary positions [B,1,C,E]
  Tensor memory;      // S [B,1,E,E]
};

std::unique_ptr<MixerState> GauMixer::make_state(std::int64_t batch, std::int64_t capacity) const {
  return std::make_unique<State>(*this, batch, capacity);
}

Tensor GauMixer::advance(const Tensor& x, MixerState& given, std::span<const std::int64_t> counts) {
  State& state = static_cast<State&>(given);
  const std::int64_t size = config_.chunk_size;
  const NewRows places({state.lengths(), counts}, x.size(1), state.cache.slots());
  const Tensor q = attn_.queries(x), k = attn_.keys(x), v = attn_.values(x);
  const Tensor turned_q = attn_.rotate(q, places.positions), turned_k = attn_.rotate(k, places.positions);
  Tensor y = Tensor::zeros({x.size(0), 1, x.size(1), width()}, q.options());
  for_pieces(state.lengths(), counts, size, [&](const ChunkPiece& piece) {
    const std::int64_t filled = piece.position % size + piece.count(), before = piece.position / size * size;
    state.put(piece, size, piece.of(k, 2), piece.of(turned_k, 2), piece.of(v, 2));
    Tensor result = dense_attention(piece.of(turned_q, 2), state.cache.keys(piece.begin, piece.end, filled),
                                    state.cache.values(piece.begin, piece.end, filled), {});
    if (before > 0) {
      const double a = config_.scaled ? 1 / (static_cast<double>(before) * std::sqrt(static_cast<double>(width()))) : 1;
      const Tensor own = piece.rows(state.memory);
      result = add(result, cast(matmul(mul(cast(piece.of(q, 2), own.dtype()), a), own), q.dtype()));
    }
    Tensor target = piece.of(y, 2);
    copy_(target, result);
    state.close(piece, size);
  });
  return output(x, y);
}

extern const MixerEntry gau_entry;
const MixerEntry gau_entry = mixer_entry<GauConfig, GauMixer>(
    "gau", "one wide, gated head: attention within chunks and a linear memory of all earlier ones",
    "Hua et al. 2022, Transformer Quality in Linear Time; BSBR 0.1.2");

}  // namespace sq
