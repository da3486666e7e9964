#include "nn/mixers/bsbr.h"

#include "nn/mixers/bsbr_faithful.h"
#include "nn/mixers/masked_keys.h"
#include "nn/mixers/registry.h"
#include "ops/block_retrieval.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/softmax.h"
#include "ops/view.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>

namespace sq {
namespace {

/// States are long sums: 16-bit floats are summed in f32.
Tensor wide(const Tensor& x) { return is_half(x.dtype()) ? cast(x, DType::f32) : x; }

/// p for all pairs: softmax over the chunks before the retriever's own that exist.
Tensor all_weights(const Tensor& r, const Tensor& h, const Chunks& chunks) {
  const std::int64_t rows = r.size(2), n = h.size(2), each = rows / n;
  std::vector<std::uint8_t> earlier;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t c = 0; c < n; ++c) earlier.push_back(c < i / each ? 1 : 0);
  const Tensor there = Tensor::from(earlier, {1, 1, rows, n});
  Tensor scores = mul(matmul(r, transpose(h, 2, 3)), 1 / std::sqrt(static_cast<double>(h.size(3))));
  // Far below any score but finite: a row without a visible chunk becomes even, and 0 afterwards.
  const Tensor low = Tensor::full({}, -1e30, scores.options()), none = Tensor::zeros({}, scores.options());
  const Tensor exists = reshape(chunks.exists(), {h.size(0), 1, 1, n});
  const Tensor p = softmax(where(exists, where(there, scores, low), low));
  return where(exists, where(there, p, none), none);
}

}  // namespace

BsbrMixer::BsbrMixer(const BsbrConfig& config, const MixerContext& context, Initializer& init)
    : config_(config),
      context_(context),
      attn_(AttentionOptions::in_model(context, config.num_heads, config.num_heads, config.plan(context).head_dim),
            init),
      meta_r_proj_(context.hidden_size, config.num_heads * width(), context.bias, init),
      meta_h_proj_(context.hidden_size, config.num_heads * width(), context.bias, init) {
  if (config.gate == BsbrGate::one) gate_ = add_parameter("attn.retrieval_gate", init.ones({config.num_heads}));
  if (config.gate == BsbrGate::zero) gate_ = add_parameter("attn.retrieval_gate", init.zeros({config.num_heads}));
  add_module("attn", attn_);
  add_module("attn.meta_r_proj", meta_r_proj_);
  add_module("attn.meta_h_proj", meta_h_proj_);
  if (!config.compresses()) return;
  const std::int64_t whole = width() * width(), kept = config.compressed_size(context);
  add_module("attn.compress_proj", compress_proj_.emplace(whole, kept, context.bias, init));
  add_module("attn.decompress_proj", decompress_proj_.emplace(kept, whole, context.bias, init));
}

Tensor BsbrMixer::heads(const Linear& projection, const Tensor& x) const {
  return transpose(reshape(projection.forward(x), {x.size(0), x.size(1), config_.num_heads, width()}), 1, 2);
}

Tensor BsbrMixer::local(const Tensor& x, const Chunks& chunks, const Tensor& q, const Tensor& k,
                        const Tensor& v) const {
  ScoredRows rows{.q = q, .k = k, .scale = 0};
  if (context_.rope) {
    const Tensor positions = chunks.folded_positions();
    rows = {.q = attn_.rotate(q, positions), .k = attn_.rotate(k, positions), .scale = 0};
  }
  if (chunks.mask().defined()) rows = without_masked_keys(rows, reshape(chunks.mask(), {x.size(0), x.size(1)}));
  return dense_attention(rows.q, rows.k, v, {.scale = rows.scale, .dropout = attn_.dropout_rate()});
}

Tensor BsbrMixer::memories(const Chunks& chunks, const Tensor& k, const Tensor& v) const {
  Tensor keys = wide(chunks.by_chunk(k));
  const Tensor values = wide(chunks.by_chunk(v));
  if (chunks.mask().defined()) {
    const Tensor real = reshape(chunks.mask(), {chunks.batch(), 1, chunks.count(), chunks.size(), 1});
    keys = where(real, keys, Tensor::zeros({}, keys.options()));
  }
  const double root = 1 / std::sqrt(static_cast<double>(width()));
  Tensor states = matmul(transpose(keys, 3, 4), values);
  if (config_.state_norm == BsbrStateNorm::mean) {
    const Tensor norm = cast(div(root, chunks.real_positions()), states.dtype());
    states = mul(states, reshape(norm, {norm.size(0), 1, norm.size(1), 1, 1}));
  }
  return config_.compresses() ? compressed(states, k.dtype()) : states;
}

Tensor BsbrMixer::compressed(const Tensor& states, DType dtype) const {
  const Tensor flat = reshape(states, {states.size(0), states.size(1), states.size(2), width() * width()});
  return wide(compress_proj_->forward(cast(flat, dtype)));
}

Tensor BsbrMixer::decompressed(const Tensor& states, DType dtype) const {
  const Tensor flat = wide(decompress_proj_->forward(cast(states, dtype)));
  return reshape(flat, {flat.size(0), flat.size(1), flat.size(2), width(), width()});
}

Tensor BsbrMixer::retrievers(const Chunks& chunks) const {
  switch (config_.retriever) {
    case BsbrRetriever::first:
      return heads(meta_r_proj_, chunks.first_rows());
    case BsbrRetriever::prev:
      return heads(meta_r_proj_, chunks.rows_before());
    case BsbrRetriever::token:
      break;
  }
  return heads(meta_r_proj_, chunks.rows());
}

Tensor BsbrMixer::gated(const Tensor& retrieval) const {
  return gate_.defined() ? mul(retrieval, cast(reshape(gate_, {config_.num_heads, 1, 1}), retrieval.dtype()))
                         : retrieval;
}

Tensor BsbrMixer::retrieve(const Chunks& chunks, const Tensor& q, const Tensor& states) const {
  const Tensor read = config_.compresses() ? decompressed(states, q.dtype()) : states;
  const Tensor r = wide(retrievers(chunks)), h = wide(heads(meta_h_proj_, chunks.last_rows()));
  const Tensor y = block_retrieval(wide(chunks.unfolded(q)), r, h, read, chunks.size(), {.exists = chunks.exists()});
  return gated(cast(y, q.dtype()));
}

Tensor BsbrMixer::mix(const Tensor& x, const Padding& padding) {
  if (config_.faithful) {
    const auto turned = [&](const Tensor& rows) { return attn_.rotate(rows, Tensor::arange(x.size(1))); };
    BsbrFaithful inputs;
    inputs.q = attn_.queries(x);
    inputs.k = attn_.keys(x);
    inputs.v = attn_.values(x);
    inputs.r = heads(meta_r_proj_, x);
    inputs.h = heads(meta_h_proj_, x);
    inputs.local_q = turned(inputs.q);
    inputs.local_k = turned(inputs.k);
    if (config_.compresses()) {
      inputs.compress = [&](const Tensor& states) { return compress_proj_->forward(states); };
      inputs.decompress = [&](const Tensor& states) { return decompress_proj_->forward(states); };
    }
    return attn_.output(bsbr_faithful(inputs, config_.chunk_size));
  }
  // Padding at the end is never read by a real position: its chunk is the last one of its row, or later.
  const Chunks chunks(x, config_.chunk_size, padding.mask);
  const Tensor folded = chunks.folded();
  const Tensor q = attn_.queries(folded), k = attn_.keys(folded), v = attn_.values(folded);
  Tensor y = chunks.unfolded(local(folded, chunks, q, k, v));
  if (chunks.count() > 1) {
    const Tensor retrieval = retrieve(chunks, q, memories(chunks, k, v));
    y = transpose(add(transpose(y, 1, 2), transpose(retrieval, 1, 2)), 1, 2);  // in the order of the memory
  }
  return attn_.output(chunks.trimmed(y));
}

BsbrParts BsbrMixer::parts(const Tensor& x, const Tensor& mask) const {
  require(can_step(), "bsbr", "the faithful form has no parts of its own; set faithful to false");
  const Tensor real = mask.defined() ? mask : Tensor::ones({x.size(0), x.size(1)}, {DType::u8, x.device()});
  const Chunks chunks(x, config_.chunk_size, real);
  const Tensor folded = chunks.folded();
  const Tensor q = attn_.queries(folded), k = attn_.keys(folded), v = attn_.values(folded);
  BsbrParts parts{.states = memories(chunks, k, v),
                  .h = heads(meta_h_proj_, chunks.last_rows()),
                  .r = retrievers(chunks),
                  .p = {},
                  .local = chunks.trimmed(chunks.unfolded(local(folded, chunks, q, k, v))),
                  .retrieval = {}};
  parts.retrieval = chunks.trimmed(retrieve(chunks, q, parts.states));
  parts.p = all_weights(wide(parts.r), wide(parts.h), chunks);
  if (config_.retriever == BsbrRetriever::token) {
    parts.r = chunks.trimmed(parts.r);
    parts.p = chunks.trimmed(parts.p);
  }
  return parts;
}

extern const MixerEntry bsbr_entry;
const MixerEntry bsbr_entry = mixer_entry<BsbrConfig, BsbrMixer>(
    "bsbr", "attention within chunks, and memories of earlier chunks chosen by a softmax over chunks",
    "BSBR 0.1.2, Block Sparse Attention with Block Retrieval");

}  // namespace sq
