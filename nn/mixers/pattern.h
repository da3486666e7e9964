// nn/mixers/pattern.h: who attends to whom. Lists of neighbors as pure functions of positions; no tensors' arithmetic.
//
// Positions count from 0 over [G globals ; tokens]. K = G + w + 2m + R columns: globals, local window, dilated, random
// (HaloSConfig). A list is made for every layer; lists of two layers differ.
#pragma once

#include "nn/mixers/halo_s_config.h"
#include "tensor/tensor.h"

#include <cstdint>
#include <span>
#include <vector>

namespace sq {

/// Neighbors of the rows first_row … first_row+rows-1. Row i of the sequence is row i-first_row of the table.
/// An index is a row of the sequence; -1 is an empty slot, absent from the softmax.
struct NeighborTable {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<std::int32_t> index;  // [rows,columns]

  NeighborTable(std::int64_t first, std::int64_t row_count, std::int64_t column_count);
  /// Columns of sequence row i.
  std::span<const std::int32_t> row(std::int64_t i) const { return {&index[offset(i)], width()}; }
  std::span<std::int32_t> row(std::int64_t i) { return {&index[offset(i)], width()}; }

 private:
  std::size_t offset(std::int64_t i) const { return static_cast<std::size_t>((i - first_row) * columns); }
  std::size_t width() const { return static_cast<std::size_t>(columns); }
};

/// i32 [rows,columns].
Tensor to_tensor(const NeighborTable& list);

/// Throws Error unless every index is -1 or a row of a sequence of `length` rows and every row has one that is not
/// later than itself (`causal`) or any at all.
void check_neighbors(const NeighborTable& list, std::int64_t length, bool causal);

/// Empties the slots of later rows: the causal mask.
void hide_future(NeighborTable& list);
/// Leaves the first of equal indices in a row and empties the others.
void hide_repeats(NeighborTable& list);

/// The original's list for a sequence of S = `length` positions, with its repeats and later positions. Row i:
///   globals 0 … G-1; local i-⌊w/2⌋+a, a = 0 … w-1; for each offset d: i+d, i-d;
///   random G + (i·2654435761 + layer·805459861 + r·3266489917 mod 2³²) mod (S-G), r = 0 … R-1;
/// what falls outside 0 … S-1 becomes i. Throws UsageError unless S > G.
NeighborTable faithful_graph(std::int64_t length, std::int64_t layer, const HaloSConfig& config);

/// Rows first_row … first_row+rows-1 of the causal list. Row i >= G depends on i alone, never on the length:
///   globals 0 … G-1; local i-w+1 … i; dilated i-n·s, n = 1 … 2m, s = causal_stride;
///   random G + mix(i,layer,r) mod c, r = 0 … R-1, with c = i-w-G+1 the tokens before the window.
/// A slot below G (above: none exists) is empty, and so is a random one that repeats a column. Row i < G: 0 … i.
NeighborTable causal_graph(std::int64_t first_row, std::int64_t rows, std::int64_t layer, const HaloSConfig& config,
                           std::int64_t max_seq_len);

/// P, the number of different strides: the smallest P >= 1 with w·(2m+1)^P >= max_seq_len, 1 when m = 0.
/// Any P+1 consecutive layers carry every earlier token to every position.
std::int64_t causal_period(const HaloSConfig& config, std::int64_t max_seq_len);
/// w·(2m+1)^(layer mod P).
std::int64_t causal_stride(std::int64_t layer, const HaloSConfig& config, std::int64_t max_seq_len);

/// Sizes of a list of S positions, as the original reports them (8-byte indices, one byte per pair of a dense mask).
struct GraphStatistics {
  std::int64_t seq_len = 0;
  std::int64_t num_neighbors = 0;
  double sparse_memory_mb = 0;   // 8·S·K / 2²⁰
  double dense_memory_mb = 0;    // S² / 2²⁰
  double compression_ratio = 0;  // S² / (8·S·K)
  std::int64_t total_connections = 0;
  std::int64_t dense_connections = 0;
};
GraphStatistics graph_statistics(std::int64_t length, std::int64_t num_neighbors);

}  // namespace sq
