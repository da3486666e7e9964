#include "ops/neighbor_list.h"

#include "tests/support/compare.h"

using namespace sq;

namespace {

std::vector<std::int32_t> list(const RaggedLists& lists, std::int64_t i) {
  return {lists.entries(i), lists.entries(i) + lists.count(i)};
}

using Entries = std::vector<std::int32_t>;

}  // namespace

TEST_CASE("neighbor_list plans hold the live slots from either side") {
  const Tensor indices = Tensor::from<std::int64_t>({0, -1, 2, 0, 1, 1, 2, 2, 0}, {3, 3});
  const NeighborList neighbors = make_neighbor_list(indices, {}, 4);
  const NeighborPlan& causal = neighbors.backward_plan(true, 0);
  CHECK(list(causal.keys.rest, 0) == Entries{0});
  CHECK(list(causal.keys.rest, 1) == Entries{0, 1, 1});
  CHECK(list(causal.keys.rest, 2) == Entries{0, 2, 2});
  CHECK(list(causal.queries.rest, 0) == Entries{0, 1, 2});
  CHECK(list(causal.queries.rest, 1) == Entries{1, 1});
  CHECK(list(causal.queries.rest, 2) == Entries{2, 2});
  CHECK(list(causal.queries.rest, 3) == Entries{});
  CHECK(list(neighbors.forward_plan(false, 0).keys.rest, 0) == Entries{0, 2});
}

TEST_CASE("neighbor_list takes each query's own position into account") {
  const NeighborList neighbors = make_neighbor_list(Tensor::from<std::int32_t>({7, 8, 9, 7, 8, 9}, {2, 3}),
                                                    Tensor::from<std::int64_t>({8, 7}, {2}), 10);
  CHECK(list(neighbors.forward_plan(true, 0).keys.rest, 0) == Entries{7, 8});
  CHECK(list(neighbors.forward_plan(true, 0).keys.rest, 1) == Entries{7});
}

TEST_CASE("neighbor_list hands out the same plan again, and references stay good") {
  const NeighborList neighbors = make_neighbor_list(Tensor::zeros({2, 3}, {.dtype = DType::i32}), {}, 2);
  const NeighborPlan* first = &neighbors.forward_plan(true, 0);
  for (std::int64_t columns = 1; columns <= 3; ++columns) neighbors.forward_plan(false, columns);
  CHECK(first == &neighbors.forward_plan(true, 0));
  CHECK(first == &neighbors.backward_plan(true, 0));
}

TEST_CASE("neighbor_list says what is wrong" * doctest::test_suite("cpu")) {
  const auto i64 = [](std::initializer_list<std::int64_t> values, const Shape& shape) {
    return Tensor::from<std::int64_t>(values, shape);
  };
  CHECK_THROWS_WITH_AS(make_neighbor_list(i64({0, 1, 4, 0}, {2, 2}), {}, 4),
                       "make_neighbor_list: entry 0 of query 1 is key 4, outside 0 … 3 (-1 marks an empty slot)",
                       Error);
  CHECK_THROWS_WITH_AS(make_neighbor_list(i64({0, -2}, {1, 2}), {}, 4),
                       "make_neighbor_list: entry 1 of query 0 is key -2, outside 0 … 3 (-1 marks an empty slot)",
                       Error);
  CHECK_THROWS_WITH_AS(make_neighbor_list(i64({0, 1}, {2}), {}, 4),
                       "make_neighbor_list: indices i64[2]@cpu must be i32 or i64 [Tq,K]", Error);
  CHECK_THROWS_WITH_AS(make_neighbor_list(i64({0, 1}, {2, 1}), i64({0, 4}, {2}), 4),
                       "make_neighbor_list: position 4 of query 1 is outside 0 … 3", Error);
  CHECK_THROWS_AS(make_neighbor_list(i64({0, 1}, {2, 1}), i64({0}, {1}), 4), Error);
  CHECK_THROWS_AS(make_neighbor_list(Tensor::zeros({2, 1}), {}, 4), Error);
}
