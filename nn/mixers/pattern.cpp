#include "nn/mixers/pattern.h"

#include <algorithm>
#include <limits>

namespace sq {
namespace {

constexpr std::int32_t kEmpty = -1;

std::int32_t narrow(std::int64_t index) { return static_cast<std::int32_t>(index); }

/// An avalanche hash of (position, layer, edge): all bits of the result depend on all three.
std::uint64_t mix(std::int64_t position, std::int64_t layer, std::int64_t edge) {
  std::uint64_t z = static_cast<std::uint64_t>(position) * 0x9E3779B97F4A7C15u +
                    static_cast<std::uint64_t>(layer) * 0xBF58476D1CE4E5B9u +
                    static_cast<std::uint64_t>(edge) * 0x94D049BB133111EBu;
  z ^= z >> 30;
  z *= 0xBF58476D1CE4E5B9u;
  z ^= z >> 27;
  z *= 0x94D049BB133111EBu;
  z ^= z >> 31;
  return z;
}

/// The columns of position i >= G, in order, into `out` (K slots).
void fill_causal_row(std::span<std::int32_t> out, std::int64_t i, std::int64_t layer, std::int64_t stride,
                     const HaloSConfig& config) {
  const std::int64_t globals = config.num_globals;
  const std::int64_t window = config.local_window;
  const auto token_or_empty = [&](std::int64_t j) { return j >= globals ? narrow(j) : kEmpty; };
  auto slot = out.begin();
  for (std::int64_t g = 0; g < globals; ++g) *slot++ = narrow(g);
  for (std::int64_t a = window - 1; a >= 0; --a) *slot++ = token_or_empty(i - a);
  const auto far = slot;
  for (std::int64_t n = 1; n <= config.num_dilated(); ++n) *slot++ = token_or_empty(i - n * stride);
  const std::int64_t candidates = i - window - globals + 1;
  for (std::int64_t r = 0; r < config.num_random; ++r, ++slot) {
    *slot = kEmpty;
    if (candidates <= 0) continue;
    const auto drawn = static_cast<std::int64_t>(mix(i, layer, r) % static_cast<std::uint64_t>(candidates));
    const std::int32_t target = narrow(globals + drawn);
    if (std::find(far, slot, target) == slot) *slot = target;
  }
}

}  // namespace

NeighborTable::NeighborTable(std::int64_t first, std::int64_t row_count, std::int64_t column_count)
    : first_row(first), rows(row_count), columns(column_count) {
  require(first >= 0 && row_count >= 0 && column_count >= 0, "neighbor list",
          "first row {}, {} rows and {} columns must not be negative", first, row_count, column_count);
  require(first + row_count <= std::numeric_limits<std::int32_t>::max(), "neighbor list",
          "row {} is beyond the 31 bits of an index", first + row_count);
  try {
    index.assign(static_cast<std::size_t>(row_count * column_count), kEmpty);
  } catch (const std::exception&) {
    throw Error(fmt::format("neighbor list: {} rows of {} columns do not fit in memory", row_count, column_count));
  }
}

Tensor to_tensor(const NeighborTable& list) { return Tensor::from(list.index, {list.rows, list.columns}); }

void check_neighbors(const NeighborTable& list, std::int64_t length, bool causal) {
  for (std::int64_t i = list.first_row; i < list.first_row + list.rows; ++i) {
    bool live = false;
    for (const std::int32_t j : list.row(i)) {
      require(j >= kEmpty && j < length, "neighbor list", "row {} names row {} of a sequence of {} rows", i, j, length);
      live = live || (j != kEmpty && (!causal || j <= i));
    }
    require(live, "neighbor list", "row {} has no neighbor{}", i, causal ? " that is not later" : "");
  }
}

void hide_future(NeighborTable& list) {
  for (std::int64_t i = list.first_row; i < list.first_row + list.rows; ++i)
    for (std::int32_t& j : list.row(i))
      if (j > i) j = kEmpty;
}

void hide_repeats(NeighborTable& list) {
  for (std::int64_t i = list.first_row; i < list.first_row + list.rows; ++i) {
    const std::span<std::int32_t> row = list.row(i);
    for (auto slot = row.begin(); slot != row.end(); ++slot)
      if (std::find(row.begin(), slot, *slot) != slot) *slot = kEmpty;
  }
}

NeighborTable faithful_graph(std::int64_t length, std::int64_t layer, const HaloSConfig& config) {
  const std::int64_t globals = config.num_globals;
  require_input(length > globals, "halo_s", "a sequence of {} positions has no token beside its {} globals", length,
                globals);
  NeighborTable list(0, length, config.num_neighbors());
  for (std::int64_t i = 0; i < length; ++i) {
    auto slot = list.row(i).begin();
    const auto put = [&](std::int64_t j) { *slot++ = narrow(j >= 0 && j < length ? j : i); };
    for (std::int64_t g = 0; g < globals; ++g) put(g);
    for (std::int64_t a = 0; a < config.local_window; ++a) put(i - config.local_window / 2 + a);
    for (const std::int64_t d : config.dilated_offsets) {
      put(i + d);
      put(i - d);
    }
    for (std::int64_t r = 0; r < config.num_random; ++r) {
      const auto hash = static_cast<std::uint32_t>(i) * 2654435761u + static_cast<std::uint32_t>(layer) * 805459861u +
                        static_cast<std::uint32_t>(r) * 3266489917u;
      put(globals + static_cast<std::int64_t>(hash) % (length - globals));
    }
  }
  return list;
}

std::int64_t causal_period(const HaloSConfig& config, std::int64_t max_seq_len) {
  const std::int64_t base = config.num_dilated() + 1;
  if (base == 1) return 1;
  std::int64_t period = 1;
  for (std::int64_t reach = config.local_window * base; reach < max_seq_len; reach *= base) ++period;
  return period;
}

std::int64_t causal_stride(std::int64_t layer, const HaloSConfig& config, std::int64_t max_seq_len) {
  std::int64_t stride = config.local_window;
  for (std::int64_t e = layer % causal_period(config, max_seq_len); e > 0; --e) stride *= config.num_dilated() + 1;
  return stride;
}

NeighborTable causal_graph(std::int64_t first_row, std::int64_t rows, std::int64_t layer, const HaloSConfig& config,
                           std::int64_t max_seq_len) {
  NeighborTable list(first_row, rows, config.num_neighbors());
  const std::int64_t stride = causal_stride(layer, config, max_seq_len);
  for (std::int64_t i = first_row; i < first_row + rows; ++i) {
    if (i >= config.num_globals) {
      fill_causal_row(list.row(i), i, layer, stride, config);
    } else {
      for (std::int64_t g = 0; g <= i; ++g) list.row(i)[static_cast<std::size_t>(g)] = narrow(g);
    }
  }
  return list;
}

GraphStatistics graph_statistics(std::int64_t length, std::int64_t num_neighbors) {
  const auto s = static_cast<double>(length);
  const auto k = static_cast<double>(num_neighbors);
  return {.seq_len = length,
          .num_neighbors = num_neighbors,
          .sparse_memory_mb = 8 * s * k / (1 << 20),
          .dense_memory_mb = s * s / (1 << 20),
          .compression_ratio = s * s / (8 * s * k),
          .total_connections = length * num_neighbors,
          .dense_connections = length * length};
}

}  // namespace sq
