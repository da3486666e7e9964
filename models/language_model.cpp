#include "models/language_model.h"

#include "autograd/checkpoint.h"
#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/gather.h"
#include "ops/matmul.h"
#include "ops/view.h"

#include <algorithm>
#include <numeric>

namespace sq {
namespace {

void require_ids(const Tensor& ids) {
  require((ids.dtype() == DType::i64 || ids.dtype() == DType::i32) && ids.rank() == 2 && ids.size(0) >= 1 &&
              ids.size(1) >= 1,
          "model", "ids {} must be i64 or i32 [B,T] with B, T >= 1", ids);
}

/// targets with everything at or past a row's length ignored.
Tensor without_padding(const Tensor& targets, const std::vector<std::int64_t>& lengths, std::int64_t ignore_index) {
  std::vector<std::int64_t> values = targets.to_vector<std::int64_t>();
  const std::int64_t width = targets.size(1);
  for (std::size_t b = 0; b < lengths.size(); ++b)
    for (std::int64_t t = lengths[b]; t < width; ++t)
      values[b * static_cast<std::size_t>(width) + static_cast<std::size_t>(t)] = ignore_index;
  return Tensor::from(values, targets.shape());
}

/// targets with everything at zeros of `mask` ignored.
Tensor without_padding(const Tensor& targets, const Tensor& mask, std::int64_t ignore_index) {
  require(mask.shape() == targets.shape(), "model", "mask {} does not fit targets {}", mask, targets);
  std::vector<std::int64_t> values = targets.to_vector<std::int64_t>();
  const std::vector<double> real = mask.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i)
    if (real[i] == 0) values[i] = ignore_index;
  return Tensor::from(values, targets.shape());
}

/// x [B,T,C] -> row index[b] of every b, [B,C].
Tensor pick_rows(const Tensor& x, std::span<const std::int64_t> index) {
  std::vector<std::int64_t> flat;
  for (std::size_t b = 0; b < index.size(); ++b) flat.push_back(static_cast<std::int64_t>(b) * x.size(1) + index[b]);
  const Shape rows{x.size(0) * x.size(1), x.size(2)};
  return index_select(reshape(x, rows), 0, Tensor::from(flat, {x.size(0)}));
}

}  // namespace

std::int64_t ModelState::bytes() const {
  std::int64_t total = 0;
  for (const auto& layer : layers_) total += layer->bytes();
  for (const auto& row : rows_) total += row->bytes();
  return total;
}

LanguageModel::LanguageModel(const ModelConfig& config, TensorOptions options, Generator& generator)
    : config_(config),
      globals_(config.global_rows()),
      max_tokens_(config.max_tokens()),
      embedding_dropout_(config.embedding_dropout) {
  config_.validate("");
  require_input(config_.vocab_size > 0, "config", "vocab_size is 0; take it from a tokenizer or set it");
  Initializer init(config_.init, config_.hidden_size, config_.num_layers, generator, options);
  if (globals_.count > 0)
    global_memory_ = add_parameter("global_memory", init.embedding(globals_.count, config_.hidden_size));
  token_embedding_ = std::make_unique<Embedding>(config_.vocab_size, config_.hidden_size, init);
  add_module("token_emb", *token_embedding_);
  if (config_.positions.type == PositionKind::learned) {
    position_embedding_ = std::make_unique<Embedding>(max_tokens(), config_.hidden_size, init);
    add_module("pos_emb", *position_embedding_);
  }
  if (config_.positions.type == PositionKind::sinusoidal)
    sinusoids_ =
        std::make_unique<SinusoidalPositions>(config_.hidden_size, config_.positions.base, max_tokens(), options);
  add_module("embedding_dropout", embedding_dropout_);
  for (std::int64_t index = 0; index < config_.num_layers; ++index) {
    layers_.push_back(std::make_unique<Layer>(config_, index, init));
    add_module(fmt::format("layers.{}", index), *layers_.back());
  }
  final_norm_ = std::make_unique<Norm>(config_.hidden_size, config_.norm.options(), init);
  add_module("ln_f", *final_norm_);
  if (!config_.tie_embeddings) {
    head_ = std::make_unique<Linear>(config_.hidden_size, config_.vocab_size, /*bias=*/false, init);
    add_module("lm_head", *head_);
  }
}

bool LanguageModel::can_step() const {
  return std::all_of(layers_.begin(), layers_.end(), [](const auto& layer) { return layer->mixer().can_step(); });
}

/// dropout(token_emb[ids] + positions); row b begins at first_positions[b], or at 0 when there are none.
Tensor LanguageModel::embed(const Tensor& ids, std::span<const std::int64_t> first_positions) {
  const Tensor x = cast(token_embedding_->forward(ids), options().dtype);
  return embedding_dropout_.forward(add_positions(x, first_positions));
}

Tensor LanguageModel::add_positions(const Tensor& x, std::span<const std::int64_t> first_positions) {
  if (!position_embedding_ && !sinusoids_) return x;
  const std::int64_t tokens = x.size(1);
  if (sinusoids_ && first_positions.empty()) return add(x, sinusoids_->first(tokens));
  std::vector<std::int64_t> positions;
  const std::int64_t rows = first_positions.empty() ? 1 : x.size(0);
  for (std::int64_t b = 0; b < rows; ++b)
    for (std::int64_t t = 0; t < tokens; ++t) {
      // Padding may lie past the table; its row does not matter.
      const std::int64_t position = t + (first_positions.empty() ? 0 : first_positions[static_cast<std::size_t>(b)]);
      positions.push_back(std::min(position, max_tokens() - 1));
    }
  if (sinusoids_) return add(x, sinusoids_->at(positions, {rows, tokens}));
  return add(x, cast(position_embedding_->forward(Tensor::from(positions, {rows, tokens})), x.dtype()));
}

/// x [B,T,C], tokens first_token … first_token+T-1 -> [B,S,C] with the global rows in front of the sequence or of each
/// chunk that begins here.
Tensor LanguageModel::insert_globals(const Tensor& x, std::int64_t first_token) const {
  if (globals_.count == 0) return x;
  const Tensor memory = expand(unsqueeze(global_memory_, 0), {x.size(0), globals_.count, x.size(2)});
  if (globals_.chunk == 0) return first_token == 0 ? concat({memory, x}, 1) : x;
  std::vector<Tensor> pieces;
  for (std::int64_t t = 0; t < x.size(1);) {
    const std::int64_t in_chunk = (first_token + t) % globals_.chunk;
    if (in_chunk == 0) pieces.push_back(memory);
    const std::int64_t end = std::min(x.size(1), t + globals_.chunk - in_chunk);
    pieces.push_back(slice(x, 1, t, end));
    t = end;
  }
  return concat(pieces, 1);
}

/// The inverse for whole sequences: [B,S,C] -> the token rows [B,T,C].
Tensor LanguageModel::drop_globals(const Tensor& x, std::int64_t tokens) const {
  if (globals_.count == 0) return x;
  if (globals_.chunk == 0) return slice(x, 1, globals_.count, x.size(1));
  std::vector<Tensor> pieces;
  for (std::int64_t t = 0, row = globals_.count; t < tokens; t += globals_.chunk, row += globals_.count) {
    const std::int64_t count = std::min(globals_.chunk, tokens - t);
    pieces.push_back(slice(x, 1, row, row + count));
    row += count;
  }
  return concat(pieces, 1);
}

Tensor LanguageModel::run_layers(const Tensor& x, const SequenceInfo& info) {
  Tensor streams = layers_.front()->residual().expand(x);
  for (const auto& layer : layers_) {
    const auto forward = [&layer = *layer, info](const std::vector<Tensor>& in) { return layer.forward(in[0], info); };
    streams = recompute_layers_ && training() ? checkpoint(forward, {streams}) : forward({streams});
  }
  return final_norm_->forward(layers_.back()->residual().collapse(streams));
}

Tensor LanguageModel::hidden(const Tensor& ids, const SequenceInfo& info) {
  require_ids(ids);
  if (!info.documents.empty()) return hidden_of_documents(ids, info);
  const std::int64_t tokens = ids.size(1);
  require(tokens <= max_tokens(), "model",
          "{} tokens exceed the model's limit of {} (max_seq_len {} with {} global rows)", tokens, max_tokens(),
          config_.max_seq_len, globals_.count);
  require(!info.mask.defined() || globals_.count == 0, "model",
          "a mask cannot be combined with learned global rows; give lengths instead");
  SequenceInfo rows{.lengths = {}, .documents = {}, .mask = info.mask};
  for (const std::int64_t length : info.lengths) {
    require(length >= 0 && length <= tokens, "model", "a length of {} does not fit rows of {} tokens", length, tokens);
    rows.lengths.push_back(globals_.total(length));
  }
  return drop_globals(run_layers(insert_globals(embed(ids, {}), 0), rows), tokens);
}

/// Each document becomes a row of its own; the results are put back where the documents lay.
Tensor LanguageModel::hidden_of_documents(const Tensor& ids, const SequenceInfo& info) {
  require(info.lengths.empty() && static_cast<std::int64_t>(info.documents.size()) == ids.size(0), "model",
          "packed documents need one list of starts for each of {} rows, and no lengths", ids.size(0));
  const std::int64_t width = ids.size(1);
  const std::vector<std::int64_t> values = ids.to_vector<std::int64_t>();
  std::vector<std::int64_t> lengths;
  for (const auto& starts : info.documents) {
    require(!starts.empty() && starts.front() == 0 &&
                std::is_sorted(starts.begin(), starts.end(), std::less_equal<>()) && starts.back() < width,
            "model", "starts of packed documents must begin with 0, ascend and lie within {} tokens", width);
    for (std::size_t n = 0; n < starts.size(); ++n)
      lengths.push_back((n + 1 < starts.size() ? starts[n + 1] : width) - starts[n]);
  }
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::vector<std::int64_t> unpacked;
  std::size_t at = 0;
  for (const std::int64_t length : lengths) {
    for (std::int64_t t = 0; t < longest; ++t)
      unpacked.push_back(t < length ? values[at + static_cast<std::size_t>(t)] : 0);
    at += static_cast<std::size_t>(length);
  }
  const Tensor result = hidden(Tensor::from(unpacked, {static_cast<std::int64_t>(lengths.size()), longest}),
                               {.lengths = lengths, .documents = {}});
  std::vector<Tensor> pieces;
  for (std::size_t n = 0; n < lengths.size(); ++n)
    pieces.push_back(slice(select(result, 0, static_cast<std::int64_t>(n)), 0, 0, lengths[n]));
  return reshape(concat(pieces, 0), {ids.size(0), width, config_.hidden_size});
}

Tensor LanguageModel::project(const Tensor& x) const {
  const Tensor weight = head_ ? head_->weight() : token_embedding_->weight();
  return cast(linear(autocast(x), autocast(weight), {}), x.dtype());
}

Tensor LanguageModel::forward(const Tensor& ids, const SequenceInfo& info) { return project(hidden(ids, info)); }

Tensor LanguageModel::loss(const Tensor& ids, const Tensor& targets, const CrossEntropyOptions& options,
                           const SequenceInfo& info) {
  require(targets.shape() == ids.shape(), "model", "targets {} do not fit ids {}", targets, ids);
  Tensor counted = info.lengths.empty() ? targets : without_padding(targets, info.lengths, options.ignore_index);
  if (info.mask.defined()) counted = without_padding(targets, info.mask, options.ignore_index);
  const Tensor x = autocast(hidden(ids, info)), weight = head_ ? head_->weight() : token_embedding_->weight();
  return linear_cross_entropy(x, cast(weight, x.dtype()), counted, options);
}

std::unique_ptr<ModelState> LanguageModel::make_state(std::int64_t batch, std::int64_t capacity) const {
  require(batch >= 1 && capacity >= 1 && capacity <= max_tokens(), "model",
          "a state for {} rows of {} tokens is not possible; rows hold 1 to {} tokens", batch, capacity, max_tokens());
  auto state = std::make_unique<ModelState>();
  state->tokens_.assign(static_cast<std::size_t>(batch), 0);
  state->capacity_ = capacity;
  if (globals_.chunk > 0 && batch > 1) {
    for (std::int64_t b = 0; b < batch; ++b) state->rows_.push_back(make_state(1, capacity));
  } else {
    for (const auto& layer : layers_)
      state->layers_.push_back(layer->mixer().make_state(batch, globals_.total(capacity)));
  }
  return state;
}

Tensor LanguageModel::step(const Tensor& ids, ModelState& state, std::span<const std::int64_t> counts) {
  const NoGrad unrecorded;
  require_ids(ids);
  require(ids.size(0) == state.batch() && (counts.empty() || static_cast<std::int64_t>(counts.size()) == state.batch()),
          "model", "ids {} or counts do not fit a state of {} rows", ids, state.batch());
  std::vector<std::int64_t> real(counts.begin(), counts.end());
  if (real.empty()) real.assign(state.tokens_.size(), ids.size(1));
  for (std::size_t b = 0; b < real.size(); ++b) {
    require(real[b] >= 0 && real[b] <= ids.size(1), "model", "a count of {} does not fit {} tokens", real[b],
            ids.size(1));
    require(state.tokens_[b] + real[b] <= state.capacity_, "model",
            "row {} holds {} tokens; {} more exceed its capacity of {}", b, state.tokens_[b], real[b], state.capacity_);
  }
  if (!state.rows_.empty()) return step_rows(ids, state, real);

  const std::int64_t first = state.tokens_[0];
  const Tensor x = insert_globals(embed(ids, state.tokens_), first);
  const std::int64_t inserted = x.size(1) - ids.size(1);
  std::vector<std::int64_t> rows = real, last;
  for (std::size_t b = 0; b < real.size(); ++b) {
    // With chunked globals there is one row and nothing is padded but its end; see make_state.
    rows[b] = globals_.chunk > 0 ? globals_.total(first + real[b]) - globals_.total(first) : real[b] + inserted;
    last.push_back(std::max<std::int64_t>(rows[b] - 1, 0));
    state.tokens_[b] += real[b];
  }
  Tensor streams = layers_.front()->residual().expand(x);
  for (std::size_t n = 0; n < layers_.size(); ++n) streams = layers_[n]->step(streams, *state.layers_[n], rows);
  const Tensor end = pick_rows(layers_.back()->residual().collapse(streams), last);
  return project(final_norm_->forward(end));
}

Tensor LanguageModel::step_rows(const Tensor& ids, ModelState& state, std::span<const std::int64_t> counts) {
  std::vector<Tensor> logits;
  for (std::size_t b = 0; b < counts.size(); ++b) {
    const auto row = static_cast<std::int64_t>(b);
    logits.push_back(counts[b] == 0 ? Tensor::zeros({1, config_.vocab_size}, options())
                                    : step(slice(slice(ids, 0, row, row + 1), 1, 0, counts[b]), *state.rows_[b]));
    state.tokens_[b] += counts[b];
  }
  return concat(logits, 0);
}

}  // namespace sq
