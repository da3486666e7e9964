#include "nn/mixers/summary_layout.h"

namespace sq {

NeighborTable summary_token_graph(std::int64_t first_token, std::int64_t tokens, std::int64_t layer,
                                  const HaloSConfig& config, std::int64_t max_seq_len) {
  const SummaryLayout layout(config);
  NeighborTable list = causal_graph(layout.globals + first_token, tokens, layer, config, max_seq_len);
  list.first_row = first_token;
  for (std::int64_t t = first_token; t < first_token + tokens; ++t) {
    for (std::int32_t& j : list.row(t)) {
      if (j < 0) continue;
      const std::int64_t row =
          j < layout.globals ? layout.row_of_summary(t / layout.chunk, j) : layout.row_of_token(j - layout.globals);
      j = static_cast<std::int32_t>(row);
    }
  }
  return list;
}

NeighborTable summary_global_graph(std::int64_t first_chunk, std::int64_t chunks, const HaloSConfig& config) {
  const SummaryLayout layout(config);
  const std::int64_t end = first_chunk + chunks;
  const std::int64_t columns = chunks == 0 ? 0 : end * layout.globals + (end > 1 ? layout.chunk : 0);
  NeighborTable list(first_chunk * layout.globals, chunks * layout.globals, columns);
  for (std::int64_t c = first_chunk; c < end; ++c) {
    for (std::int64_t g = 0; g < layout.globals; ++g) {
      auto slot = list.row(c * layout.globals + g).begin();
      for (std::int64_t s = 0; s <= c * layout.globals + g; ++s)
        *slot++ = static_cast<std::int32_t>(layout.row_of_summary(s / layout.globals, s % layout.globals));
      slot = list.row(c * layout.globals + g).begin() + end * layout.globals;
      for (std::int64_t t = (c - 1) * layout.chunk; c > 0 && t < c * layout.chunk; ++t)
        *slot++ = static_cast<std::int32_t>(layout.row_of_token(t));
    }
  }
  return list;
}

}  // namespace sq
