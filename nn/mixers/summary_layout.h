// nn/mixers/summary_layout.h: where rows lie when every chunk of tokens has its own global rows.
//
// Tokens are cut into chunks of w. Chunk c is preceded by its G summary rows S_c:
//   row order  S_0 | tokens 0 … w-1 | S_1 | tokens w … 2w-1 | …
// A summary row reads summary rows up to itself and the tokens of the chunk before its own; a token reads the summary
// rows of its own chunk as its globals. Each reads only what lies before it, so a step of decoding appends rows.
// The rotary position of token t is G+t, as without summaries, and that of S_c is the one of its chunk's first token.
#pragma once

#include "nn/mixers/pattern.h"

namespace sq {

struct SummaryLayout {
  std::int64_t globals = 1;  // G
  std::int64_t chunk = 1;    // w

  explicit SummaryLayout(const HaloSConfig& config) : globals(config.num_globals), chunk(config.local_window) {}

  std::int64_t chunks(std::int64_t tokens) const { return (tokens + chunk - 1) / chunk; }
  /// Rows of a sequence of `tokens` tokens; the last chunk may be short.
  std::int64_t rows(std::int64_t tokens) const { return tokens + globals * chunks(tokens); }
  std::int64_t row_of_token(std::int64_t token) const { return token + globals * (token / chunk + 1); }
  std::int64_t row_of_summary(std::int64_t c, std::int64_t g) const { return c * (globals + chunk) + g; }
  std::int64_t chunk_of_row(std::int64_t row) const { return row / (globals + chunk); }
  bool is_summary(std::int64_t row) const { return row % (globals + chunk) < globals; }
  /// For rows that are no summaries.
  std::int64_t token_of_row(std::int64_t row) const { return row - globals * (chunk_of_row(row) + 1); }
  /// Rotary position.
  std::int64_t position_of_row(std::int64_t row) const {
    return globals + (is_summary(row) ? chunk_of_row(row) * chunk : token_of_row(row));
  }
};

/// Neighbors of the tokens first_token … first_token+tokens-1 as rows of the layout: the list of causal_graph for
/// position G+t with its globals replaced by the summary rows of the token's chunk. Row k of the table belongs to token
/// first_token+k; first_row of the result counts tokens.
NeighborTable summary_token_graph(std::int64_t first_token, std::int64_t tokens, std::int64_t layer,
                                  const HaloSConfig& config, std::int64_t max_seq_len);

/// Neighbors of the summary rows of chunks first_chunk … first_chunk+chunks-1, G rows a chunk: row g of chunk c reads
/// the summary rows of chunks before c, rows 0 … g of its own, and the tokens of chunk c-1. Row k of the table belongs
/// to summary first_chunk·G+k; first_row of the result counts summary rows. Columns: G·(first_chunk+chunks) for
/// summaries, then w for tokens (none before the second chunk).
NeighborTable summary_global_graph(std::int64_t first_chunk, std::int64_t chunks, const HaloSConfig& config);

}  // namespace sq
