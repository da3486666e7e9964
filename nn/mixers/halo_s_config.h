// nn/mixers/halo_s_config.h: options of HALO-S attention.
#pragma once

#include "nn/fields.h"
#include "nn/mixers/plan.h"

#include <array>

namespace sq {

/// causal: neighbors depend on the query position alone and lie in the past (pattern.h). faithful: the original's
/// lists.
enum class HaloGraph { causal, faithful };
constexpr std::array<std::string_view, 2> choices(HaloGraph) { return {"causal", "faithful"}; }

/// What an index that a faithful list names c times means: c shares of the softmax, or one.
enum class HaloDuplicates { counted, once };
constexpr std::array<std::string_view, 2> choices(HaloDuplicates) { return {"counted", "once"}; }

/// fixed: the global rows stand before the sequence and see each other only. summary: every chunk of local_window
/// tokens has its own, which read the chunk before it.
enum class HaloGlobals { fixed, summary };
constexpr std::array<std::string_view, 2> choices(HaloGlobals) { return {"static", "summary"}; }

/// HALO-S (BUEORM): every token attends to K = num_globals + local_window + 2·m + num_random neighbors, m the number of
/// dilated offsets, and learned global rows attend to each other or to the chunks.
struct HaloSConfig {
  std::int64_t num_heads = 8;
  std::int64_t num_kv_heads = 2;
  std::int64_t num_globals = 2;
  std::int64_t local_window = 64;
  std::vector<std::int64_t> dilated_offsets = {1, 2, 4, 8};
  std::int64_t num_random = 2;
  HaloGraph graph = HaloGraph::causal;
  HaloDuplicates duplicates = HaloDuplicates::counted;
  HaloGlobals globals = HaloGlobals::fixed;
  bool rotate_globals = false;

  static constexpr auto fields() {
    using C = HaloSConfig;
    constexpr std::int64_t many = 1 << 12;
    return std::tuple{
        field("num_heads", &C::num_heads, "query heads", {.min = 1, .max = 1 << 12}),
        field("num_kv_heads", &C::num_kv_heads, "key/value heads; num_heads must be a multiple",
              {.min = 1, .max = 1 << 12}),
        field("num_globals", &C::num_globals, "learned global rows; at least 1 in the faithful graph",
              {.min = 0, .max = many}),
        field("local_window", &C::local_window, "nearest positions, the own one included", {.min = 1, .max = 1 << 16}),
        field("dilated_offsets", &C::dilated_offsets,
              "distances of far neighbors; in the causal graph only their number counts, two neighbors each",
              {.each = {.min = 1, .max = 1 << 30}, .distinct = true}),
        field("num_random", &C::num_random, "pseudo-random neighbors", {.min = 0, .max = many}),
        field("graph", &C::graph, "causal = the corrected lists; faithful = the original's"),
        field("duplicates", &C::duplicates, "faithful graph only: weight of an index named several times"),
        field("globals", &C::globals, "static = before the sequence; summary = one set for each chunk of local_window"),
        field("rotate_globals", &C::rotate_globals,
              "rotary positions on scores against globals; true in the faithful graph"),
    };
  }

  /// K, the columns of a neighbor list.
  std::int64_t num_neighbors() const { return num_globals + local_window + num_dilated() + num_random; }
  bool globals_are_summaries() const { return globals == HaloGlobals::summary; }
  /// 2·m, the dilated columns.
  std::int64_t num_dilated() const { return 2 * static_cast<std::int64_t>(dilated_offsets.size()); }

  void adapt_defaults(const Json& given);
  // Throw UsageError; see MixerEntry.
  void validate(std::string_view path) const;
  void check(const MixerContext& context, std::string_view path) const;

  NamedShapes parameters(const MixerContext& context) const;
  Cost cost(const MixerContext& context, std::int64_t tokens) const;
  GlobalRows global_rows() const;
};

}  // namespace sq
