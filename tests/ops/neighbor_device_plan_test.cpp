#include "ops/neighbor_device_plan.h"

#include "ops/neighbor_list.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

RaggedLists ragged(const std::vector<std::vector<std::int32_t>>& lists) {
  RaggedLists result;
  result.begin = {0};
  for (const auto& list : lists) {
    result.entry.insert(result.entry.end(), list.begin(), list.end());
    result.begin.push_back(static_cast<std::int64_t>(result.entry.size()));
  }
  return result;
}

}  // namespace

TEST_CASE("entries that four lists of a tile share become columns for a GPU") {
  std::vector<std::vector<std::int32_t>> lists(64);
  for (const std::size_t i : {0, 20, 40, 60}) lists[i].push_back(7);
  for (const std::size_t i : {0, 20, 40}) lists[i].push_back(9);
  const TiledLists tiles = tiled(ragged(lists), NeighborDevicePlan::kRowsThatPay);
  CHECK(tiles.columns.entry == std::vector<std::int32_t>{7});
  CHECK(tiles.rest.entry == std::vector<std::int32_t>{9, 9, 9});
  CHECK(tiled(ragged(lists)).columns.entry.empty());
}

TEST_CASE("make_key_parts cuts long tiles into parts that cover them, and leaves the others whole") {
  // 200 keys, of which key 70 is listed by 1000 queries: its tile, the second, needs several parts.
  std::vector<std::vector<std::int32_t>> lists(200);
  for (std::int32_t query = 0; query < 1000; ++query) lists[70].push_back(query);
  for (std::int32_t key = 0; key < 200; ++key) lists[static_cast<std::size_t>(key)].push_back(key);
  const TiledLists queries = tiled(ragged(lists), NeighborDevicePlan::kRowsThatPay);
  const TiledLists none = tiled(ragged(std::vector<std::vector<std::int32_t>>(200)));
  for (const bool plain : {false, true}) {
    const KeyParts parts = plain ? make_key_parts(none, queries) : make_key_parts(queries, none);
    const std::int32_t pieces = (1001 + KeyParts::kPartRest - 1) / KeyParts::kPartRest;
    CHECK(parts.slots == pieces);
    CHECK(parts.splits == std::vector<std::int32_t>{1, 0, pieces});
    CHECK(parts.part_count() == pieces + 3);
    for (std::int32_t n = 0; n < pieces; ++n) {
      const auto* part = parts.parts.data() + 3 * n;
      CHECK(std::vector<std::int32_t>(part, part + 3) == std::vector<std::int32_t>{1, n, n});
    }
    for (std::int32_t n = 0; n < 3; ++n) {
      const auto* part = parts.parts.data() + 3 * (pieces + n);
      CHECK(std::vector<std::int32_t>(part, part + 3) == std::vector<std::int32_t>{n == 0 ? 0 : n + 1, 0, -1});
    }
  }
}

TEST_CASE("a list's device plan holds every pair by queries and by keys, once") {
  const Tensor indices = Tensor::from<std::int64_t>({0, -1, 1, 0, 2, 2, 3, 1}, {4, 2});
  const NeighborList list = make_neighbor_list(indices, {}, 4);
  const NeighborDevicePlan& plan = list.device_plan(default_device(), true, 0, true);
  const auto values = [](const Tensor& t) { return t.to_vector<std::int64_t>(); };
  CHECK(plan.keys.column_entry.numel() == 0);
  CHECK(values(plan.keys.rest_begin) == std::vector<std::int64_t>{0, 1, 3, 5, 7});
  CHECK(values(plan.keys.rest_entry) == std::vector<std::int64_t>{0, 0, 1, 2, 2, 1, 3});
  CHECK(values(plan.keys.rest_repeat) == std::vector<std::int64_t>{0, 0, 0, 0, 1, 0, 0});
  CHECK(values(plan.queries.rest_begin) == std::vector<std::int64_t>{0, 2, 4, 6, 7});
  CHECK(values(plan.queries.rest_entry) == std::vector<std::int64_t>{0, 1, 1, 3, 2, 2, 3});
  CHECK(&list.device_plan(default_device(), true, 0, false) == &plan);
}
