#include "nn/mixers/pattern.h"

#include "nn/mixers/summary_layout.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

using namespace sq;

namespace {

HaloSConfig make(std::int64_t globals, std::int64_t window, std::vector<std::int64_t> offsets, std::int64_t random) {
  HaloSConfig config;
  config.num_globals = globals;
  config.local_window = window;
  config.dilated_offsets = std::move(offsets);
  config.num_random = random;
  return config;
}

using Row = std::vector<std::int32_t>;
Row row(const NeighborTable& list, std::int64_t i) { return {list.row(i).begin(), list.row(i).end()}; }

const std::vector<HaloSConfig> kConfigs = {make(2, 64, {1, 2, 4, 8}, 2), make(0, 1, {}, 0),      make(1, 4, {1}, 1),
                                           make(3, 1, {1, 2, 4}, 0),     make(2, 5, {}, 3),      make(0, 7, {3, 9}, 4),
                                           make(1, 16, {1, 2, 3, 4}, 5), make(4, 300, {1, 2}, 2)};

/// Positions that reach `target` through the layers first … first+count-1.
std::set<std::int64_t> sources(std::int64_t target, std::int64_t first, std::int64_t count, const HaloSConfig& config,
                               std::int64_t max_seq_len) {
  std::set<std::int64_t> reached{target};
  for (std::int64_t layer = first + count - 1; layer >= first; --layer) {
    std::set<std::int64_t> next = reached;  // the residual keeps what is there
    for (const std::int64_t i : reached)
      for (const std::int32_t j : causal_graph(i, 1, layer, config, max_seq_len).index)
        if (j >= 0) next.insert(j);
    reached = std::move(next);
  }
  return reached;
}

}  // namespace

TEST_CASE("the faithful list is the one worked out by hand") {
  const NeighborTable list = faithful_graph(12, 1, make(2, 4, {1, 3}, 2));
  CHECK(row(list, 0) == Row{0, 1, 0, 0, 0, 1, 1, 0, 3, 0, 3, 10});
  CHECK(row(list, 6) == Row{0, 1, 4, 5, 6, 7, 7, 5, 9, 3, 11, 2});
  CHECK(row(list, 11) == Row{0, 1, 9, 10, 11, 11, 11, 10, 11, 8, 8, 9});
}

TEST_CASE("faithful lists stay inside the sequence and always see themselves") {
  for (const HaloSConfig& config : kConfigs) {
    if (config.num_globals == 0) continue;
    for (const std::int64_t length : {config.num_globals + 1, std::int64_t{63}, std::int64_t{101}}) {
      const NeighborTable list = faithful_graph(length, 3, config);
      CHECK(list.rows == length);
      CHECK(list.columns == config.num_neighbors());
      check_neighbors(list, length, true);
      for (std::int64_t i = 0; i < length; ++i) {
        CHECK(std::none_of(list.row(i).begin(), list.row(i).end(), [](std::int32_t j) { return j < 0; }));
        CHECK(std::find(list.row(i).begin(), list.row(i).end(), i) != list.row(i).end());
      }
    }
  }
  CHECK(faithful_graph(100, 0, kConfigs[0]).columns == 76);
  CHECK(faithful_graph(100, 0, kConfigs[0]).index == faithful_graph(100, 0, kConfigs[0]).index);
  CHECK(faithful_graph(100, 0, kConfigs[0]).index != faithful_graph(100, 1, kConfigs[0]).index);
}

TEST_CASE("a faithful list needs a token") {
  CHECK_THROWS_WITH_AS(faithful_graph(2, 0, make(2, 4, {}, 0)),
                       "halo_s: a sequence of 2 positions has no token beside its 2 globals", UsageError);
}

TEST_CASE("the causal list is the one worked out by hand") {
  const HaloSConfig config = make(1, 4, {1}, 1);
  CHECK(row(causal_graph(12, 1, 0, config, 32), 12) == Row{0, 9, 10, 11, 12, 8, 4, 7});
  CHECK(row(causal_graph(5, 1, 0, config, 32), 5) == Row{0, 2, 3, 4, 5, 1, -1, -1});
  CHECK(row(causal_graph(30, 1, 1, config, 32), 30) == Row{0, 27, 28, 29, 30, 18, 6, 20});
}

TEST_CASE("strides of the causal list grow with depth and start over") {
  const HaloSConfig defaults = kConfigs[0];
  CHECK(causal_period(defaults, 4096) == 2);
  CHECK(causal_stride(0, defaults, 4096) == 64);
  CHECK(causal_stride(1, defaults, 4096) == 576);
  CHECK(causal_stride(2, defaults, 4096) == 64);
  CHECK(causal_period(make(0, 4, {}, 0), 4096) == 1);
  CHECK(causal_period(make(0, 64, {1}, 0), 192) == 1);
  CHECK(causal_period(make(0, 64, {1}, 0), 193) == 2);
}

TEST_CASE("causal lists: nothing twice, nothing later, always something, globals first") {
  for (const HaloSConfig& config : kConfigs) {
    for (std::int64_t layer = 0; layer < 3; ++layer) {
      const NeighborTable list = causal_graph(0, 300, layer, config, 512);
      check_neighbors(list, 300, true);
      for (std::int64_t i = 0; i < list.rows; ++i) {
        std::set<std::int32_t> seen;
        bool self = false;
        for (const std::int32_t j : list.row(i)) {
          if (j < 0) continue;
          CHECK(j <= i);
          CHECK(seen.insert(j).second);
          self = self || j == i;
        }
        CHECK(self);
        for (std::int32_t g = 0; g < std::min(config.num_globals, i + 1); ++g) CHECK(seen.count(g) == 1);
      }
    }
  }
}

TEST_CASE("a causal row does not depend on the rows around it") {
  for (const HaloSConfig& config : kConfigs) {
    const NeighborTable whole = causal_graph(0, 200, 1, config, 512);
    for (const std::int64_t first : {0, 1, 63, 150}) {
      const NeighborTable part = causal_graph(first, 50, 1, config, 512);
      for (std::int64_t i = first; i < first + 50; ++i) CHECK(row(part, i) == row(whole, i));
    }
  }
}

TEST_CASE("one period of layers and one more carry every earlier token to every position") {
  for (const HaloSConfig& config :
       {make(0, 3, {1}, 0), make(1, 2, {1, 2}, 0), make(2, 5, {4}, 0), make(0, 1, {1, 2}, 0)}) {
    const std::int64_t max_seq_len = 130;
    const std::int64_t layers = causal_period(config, max_seq_len) + 1;
    for (const std::int64_t first : {0, 1, 2}) {
      for (const std::int64_t target : {1, 17, 64, 129}) {
        if (target < config.num_globals) continue;
        CHECK(static_cast<std::int64_t>(sources(target, first, layers, config, max_seq_len).size()) == target + 1);
      }
    }
  }
}

TEST_CASE("random edges differ between layers and spread over the past") {
  const HaloSConfig config = make(0, 1, {}, 1);
  const NeighborTable a = causal_graph(1000, 1000, 0, config, 4096), b = causal_graph(1000, 1000, 1, config, 4096);
  std::int64_t equal = 0;
  double mean = 0;
  for (std::int64_t i = 1000; i < 2000; ++i) {
    equal += a.row(i)[1] == b.row(i)[1];
    mean += static_cast<double>(a.row(i)[1]) / static_cast<double>(i) / 1000;
  }
  CHECK(equal < 10);
  CHECK(mean > 0.45);
  CHECK(mean < 0.55);
}

TEST_CASE("masks empty what is later and what is repeated") {
  NeighborTable list = faithful_graph(12, 1, make(2, 4, {1, 3}, 2));
  hide_future(list);
  CHECK(row(list, 6) == Row{0, 1, 4, 5, 6, -1, -1, 5, -1, 3, -1, 2});
  hide_repeats(list);
  CHECK(row(list, 6) == Row{0, 1, 4, 5, 6, -1, -1, -1, -1, 3, -1, 2});
  check_neighbors(list, 12, true);
}

TEST_CASE("lists that an attention could not use are refused") {
  NeighborTable list(5, 1, 2);
  CHECK_THROWS_WITH_AS(check_neighbors(list, 10, true), "neighbor list: row 5 has no neighbor that is not later",
                       Error);
  list.row(5)[0] = 7;
  CHECK_THROWS_AS(check_neighbors(list, 10, true), Error);
  CHECK_NOTHROW(check_neighbors(list, 10, false));
  CHECK_THROWS_WITH_AS(check_neighbors(list, 7, false), "neighbor list: row 5 names row 7 of a sequence of 7 rows",
                       Error);
  CHECK_THROWS_AS(NeighborTable(std::int64_t{1} << 31, 1, 1), Error);
}

TEST_CASE("a list becomes an index tensor" * doctest::test_suite("cpu")) {
  const Tensor t = to_tensor(causal_graph(12, 1, 0, make(1, 4, {1}, 1), 32));
  CHECK(describe(t) == "i32[1,8]@cpu");
  CHECK(t.to_vector<std::int32_t>() == Row{0, 9, 10, 11, 12, 8, 4, 7});
}

TEST_CASE("statistics of a list") {
  const GraphStatistics s = graph_statistics(600, 76);
  CHECK(s.sparse_memory_mb == 0.347900390625);
  CHECK(s.dense_memory_mb == 0.34332275390625);
  CHECK(s.compression_ratio == doctest::Approx(0.9868421052631579).epsilon(1e-15));
  CHECK(s.total_connections == 45600);
  CHECK(s.dense_connections == 360000);
}

TEST_CASE("rows of the summary layout: every row is a summary or a token, in order") {
  const HaloSConfig config = make(2, 3, {1}, 1);
  const SummaryLayout layout(config);
  CHECK(layout.rows(0) == 0);
  CHECK(layout.rows(1) == 3);
  CHECK(layout.rows(3) == 5);
  CHECK(layout.rows(4) == 8);
  std::int64_t token = 0;
  for (std::int64_t r = 0; r < layout.rows(11); ++r) {
    if (layout.is_summary(r)) {
      const std::int64_t c = layout.chunk_of_row(r);
      CHECK(layout.row_of_summary(c, r - c * 5) == r);
      CHECK(layout.position_of_row(r) == 2 + c * 3);
    } else {
      CHECK(layout.row_of_token(token) == r);
      CHECK(layout.token_of_row(r) == token);
      CHECK(layout.position_of_row(r) == 2 + token);
      ++token;
    }
  }
  CHECK(token == 11);
}

TEST_CASE("tokens read the summaries of their own chunk and the tokens of the causal list") {
  const HaloSConfig config = make(2, 3, {1}, 1);
  const SummaryLayout layout(config);
  const NeighborTable list = summary_token_graph(0, 40, 1, config, 64);
  const NeighborTable plain = causal_graph(2, 40, 1, config, 64);
  // Token 4 is the second of chunk 1: rows S_0 0 1 | 2 3 4 | S_1 5 6 | 7 8 9.
  CHECK(Row(list.row(4).begin(), list.row(4).begin() + 5) == Row{5, 6, 4, 7, 8});
  for (std::int64_t t = 0; t < 40; ++t) {
    for (std::size_t k = 0; k < list.row(t).size(); ++k) {
      const std::int32_t from = list.row(t)[k], original = plain.row(t + 2)[k];
      CHECK((from < 0) == (original < 0));
      CHECK(from <= layout.row_of_token(t));
      if (original >= 2) CHECK(layout.token_of_row(from) == original - 2);
    }
  }
  const NeighborTable part = summary_token_graph(17, 5, 1, config, 64);
  for (std::int64_t t = 17; t < 22; ++t) CHECK(row(part, t) == row(list, t));
}

TEST_CASE("summaries read earlier summaries and the chunk before, never their own chunk") {
  const HaloSConfig config = make(2, 3, {1}, 1);
  const NeighborTable list = summary_global_graph(0, 3, config);
  CHECK(list.rows == 6);
  CHECK(list.columns == 9);
  CHECK(row(list, 0) == Row{0, -1, -1, -1, -1, -1, -1, -1, -1});
  CHECK(row(list, 1) == Row{0, 1, -1, -1, -1, -1, -1, -1, -1});
  CHECK(row(list, 2) == Row{0, 1, 5, -1, -1, -1, 2, 3, 4});
  CHECK(row(list, 5) == Row{0, 1, 5, 6, 10, 11, 7, 8, 9});
  const NeighborTable last = summary_global_graph(2, 1, config);
  CHECK(row(last, 4) == row(list, 4));
  CHECK(row(last, 5) == row(list, 5));
  CHECK(summary_global_graph(0, 0, config).rows == 0);
}
