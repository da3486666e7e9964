// nn/mixers/bsbr_config.h: options of block-sparse attention with block retrieval.
#pragma once

#include "nn/fields.h"
#include "nn/mixers/attention_plan.h"
#include "nn/mixers/plan.h"

#include <array>

namespace sq {

/// Which row a chunk's retriever is made from: its first one, the last one before it, or each position's own.
enum class BsbrRetriever { first, prev, token };
constexpr std::array<std::string_view, 3> choices(BsbrRetriever) { return {"first", "prev", "token"}; }

/// none: F_c as it is. mean: F_c / (|c|·√D), the size of a value whatever the chunk size.
enum class BsbrStateNorm { none, mean };
constexpr std::array<std::string_view, 2> choices(BsbrStateNorm) { return {"none", "mean"}; }

/// Whether heads have a learned factor on what they retrieve, and what it starts from.
enum class BsbrGate { none, one, zero };
constexpr std::array<std::string_view, 3> choices(BsbrGate) { return {"none", "one", "zero"}; }

/// See bsbr.h.
struct BsbrConfig {
  std::int64_t num_heads = 8;
  std::int64_t head_dim = 0;
  std::int64_t chunk_size = 128;
  BsbrRetriever retriever = BsbrRetriever::first;
  BsbrStateNorm state_norm = BsbrStateNorm::mean;
  std::int64_t compression_factor = 0;
  BsbrGate gate = BsbrGate::none;
  bool faithful = false;

  static constexpr auto fields() {
    using C = BsbrConfig;
    return std::tuple{
        field("num_heads", &C::num_heads, "heads", {.min = 1, .max = 1 << 12}),
        field("head_dim", &C::head_dim, "features per head; 0 = hidden_size / num_heads", {.min = 0, .max = 1 << 12}),
        field("chunk_size", &C::chunk_size, "positions that attend to each other, and that make one memory",
              {.min = 1, .max = 1 << 24}),
        field("retriever", &C::retriever,
              "what chooses the memories: the first row of a chunk, the row before it, or every row for itself"),
        field("state_norm", &C::state_norm, "mean = memories divided by their positions and the root of head_dim"),
        field("compression_factor", &C::compression_factor,
              "f > 0: memories are kept as hidden_size / f numbers a head; 0 = whole", {.min = 0, .max = 1 << 24}),
        field("gate", &C::gate, "a learned factor of each head on what it retrieves, and where it starts"),
        field("faithful", &C::faithful, "the original, which attends to the future; cannot decode"),
    };
  }

  AttentionPlan plan(const MixerContext& context) const;
  bool compresses() const { return compression_factor > 0; }
  /// m, the numbers that a compressed memory has.
  std::int64_t compressed_size(const MixerContext& context) const { return context.hidden_size / compression_factor; }
  /// Numbers of a memory as it is kept for decoding: m, or D².
  std::int64_t memory_size(const MixerContext& context) const;
  /// Chunks that can be closed and read again within R rows.
  std::int64_t closed_chunks(std::int64_t rows) const { return rows > 0 ? (rows - 1) / chunk_size : 0; }

  // Throw UsageError; see MixerEntry.
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const { return {}; }
};

}  // namespace sq
