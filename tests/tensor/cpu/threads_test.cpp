#include "tensor/cpu/threads.h"

#include "tensor/cpu/strided.h"
#include "tensor/error.h"

#include <doctest/doctest.h>

#include <atomic>
#include <limits>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

using namespace sq;
using namespace sq::cpu;

namespace {

struct Threads {
  explicit Threads(int count) : saved(thread_count()) { set_thread_count(count); }
  ~Threads() { set_thread_count(saved); }
  int saved;
};

using Block = std::pair<std::int64_t, std::int64_t>;

std::set<Block> blocks_of(std::int64_t count, std::int64_t grain) {
  std::mutex mutex;
  std::set<Block> blocks;
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::lock_guard lock(mutex);
    CHECK(blocks.emplace(begin, end).second);  // no block twice
  });
  return blocks;
}

/// A value that volatile keeps the compiler from folding.
float smallest_denormal_times_one() {
  volatile float tiny = std::numeric_limits<float>::denorm_min(), one = 1.0f;
  return tiny * one;
}

}  // namespace

TEST_CASE("parallel_for: the blocks cover the range once and do not depend on the number of threads") {
  for (const Block& problem : {Block{1, 1}, {7, 3}, {1000, 1}, {1000, 7}, {64, 64}, {65, 64}, {5, 0}}) {
    std::set<Block> expected;
    const std::int64_t grain = std::max<std::int64_t>(problem.second, 1);
    for (std::int64_t i = 0; i < problem.first; i += grain) expected.emplace(i, std::min(problem.first, i + grain));
    CHECK(static_cast<std::int64_t>(expected.size()) == block_count(problem.first, problem.second));
    for (const int threads : {1, 2, 3, 8}) {
      const Threads setting(threads);
      CHECK(blocks_of(problem.first, problem.second) == expected);
    }
  }
  CHECK(blocks_of(0, 4).empty());
  CHECK(blocks_of(-3, 4).empty());
  CHECK(block_count(0, 4) == 0);
}

TEST_CASE("parallel_for: more than one thread takes part when blocks wait for each other") {
  const Threads setting(2);
  std::atomic<int> arrived{0};
  parallel_for(2, 1, [&](std::int64_t, std::int64_t) {  // returns only if both blocks run at the same time
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  });
  CHECK(arrived == 2);
}

TEST_CASE("parallel_for: thousands of short loops, from several threads at once") {
  const Threads setting(3);
  std::vector<std::thread> callers;
  std::vector<std::int64_t> sums(12);  // more callers than the pool has room for
  for (std::size_t c = 0; c < sums.size(); ++c)
    callers.emplace_back([&sums, c] {
      for (int round = 0; round < 300; ++round) {
        std::vector<std::int64_t> parts(17);
        parallel_for(17, 1, [&](std::int64_t i, std::int64_t) { parts[static_cast<std::size_t>(i)] = i; });
        for (const std::int64_t part : parts) sums[c] += part;
      }
    });
  for (std::thread& caller : callers) caller.join();
  for (const std::int64_t sum : sums) CHECK(sum == 300 * 136);
}

TEST_CASE("parallel_for: the exception of the first failing block reaches the caller") {
  for (const int threads : {1, 2, 3}) {
    const Threads setting(threads);
    for (int round = 0; round < 50; ++round)
      CHECK_THROWS_WITH_AS(parallel_for(100, 1,
                                        [](std::int64_t i, std::int64_t) {
                                          require(i < 20 || i % 3 != 0, "loop", "block {} is bad", i);
                                        }),
                           "loop: block 21 is bad", Error);
    CHECK(blocks_of(10, 2).size() == 5);  // and the next loop is not disturbed
  }
}

TEST_CASE("parallel_for: a loop inside a body runs on the same thread") {
  const Threads setting(3);
  std::atomic<int> strangers{0};
  parallel_for(12, 1, [&](std::int64_t, std::int64_t) {
    const std::thread::id self = std::this_thread::get_id();
    parallel_for(40, 1, [&](std::int64_t, std::int64_t) {
      if (std::this_thread::get_id() != self) ++strangers;
    });
  });
  CHECK(strangers == 0);
}

TEST_CASE("parallel_for: denormals are zero inside and come back outside") {
  for (const int threads : {1, 2}) {
    const Threads setting(threads);
    REQUIRE(smallest_denormal_times_one() != 0.0f);
    std::atomic<int> kept{0};
    parallel_for(64, 1, [&](std::int64_t, std::int64_t) {
      if (smallest_denormal_times_one() != 0.0f) ++kept;
    });
    CHECK(kept == 0);
    CHECK(smallest_denormal_times_one() != 0.0f);
    CHECK_THROWS_AS(parallel_for(4, 1, [](std::int64_t, std::int64_t) { throw Error("stop"); }), Error);
    CHECK(smallest_denormal_times_one() != 0.0f);
  }
  const FlushDenormals outer;
  {
    const FlushDenormals inner;
    CHECK(smallest_denormal_times_one() == 0.0f);
  }
  CHECK(smallest_denormal_times_one() == 0.0f);  // the outer one is still there
}

TEST_CASE("the number of threads is positive") {
  CHECK(physical_core_count() >= 1);
  CHECK_THROWS_WITH_AS(set_thread_count(0), "threads: 0 is not a number of threads; use 1 or more", Error);
  CHECK_THROWS_AS(set_thread_count(-4), Error);
}

TEST_CASE("StridedLoop visits every element once with its offsets") {
  struct Layout {
    Shape shape, first, second;
    int expected_row;  // length of the merged rows
  };
  const std::vector<Layout> layouts = {
      {{2, 3, 4}, {12, 4, 1}, {12, 4, 1}, 24},   // contiguous: one row
      {{2, 3, 4}, {12, 4, 1}, {1, 2, 6}, 4},     // second transposed
      {{2, 3, 4}, {12, 4, 1}, {0, 0, 1}, 4},     // second repeated over two axes
      {{2, 3, 4}, {0, 0, 0}, {0, 0, 0}, 24},     // one element everywhere
      {{5, 1, 7}, {7, 99, 1}, {7, 5, 1}, 35},    // the stride of an axis of one element does not matter
      {{3, 4, 5}, {40, 10, 2}, {20, 5, 1}, 60},  // every other element
      {{}, {}, {}, 1},                           // a single value
      {{4, 0, 3}, {0, 3, 1}, {0, 3, 1}, -1},     // nothing at all
  };
  for (const Layout& layout : layouts)
    for (const std::int64_t grain : {1, 5, 1000}) {
      const StridedLoop<2> loop(layout.shape, {layout.first, layout.second});
      CHECK(loop.numel() == layout.shape.numel());
      if (layout.expected_row >= 0) CHECK(loop.row_length() == layout.expected_row);
      std::vector<std::array<std::int64_t, 2>> seen(static_cast<std::size_t>(loop.numel()), {-1, -1});
      loop.run(
          [&](std::int64_t count, const auto& offset, std::int64_t first) {
            for (std::int64_t i = 0; i < count; ++i)
              seen[static_cast<std::size_t>(first + i)] = {offset[0] + i * loop.row_stride(0),
                                                           offset[1] + i * loop.row_stride(1)};
          },
          grain);
      std::vector<std::array<std::int64_t, 2>> expected;
      for (std::int64_t i = 0; i < loop.numel(); ++i) {  // row-major numbers, digit by digit
        std::array<std::int64_t, 2> at = {0, 0};
        std::int64_t rest = i;
        for (int axis = layout.shape.rank() - 1; axis >= 0; --axis) {
          const std::int64_t index = rest % layout.shape[axis];
          rest /= layout.shape[axis];
          at[0] += index * layout.first[axis];
          at[1] += index * layout.second[axis];
        }
        expected.push_back(at);
      }
      CHECK(seen == expected);
    }
}
