#include "tests/train/error_text.h"
#include "train/data/copy_task.h"
#include "train/data/needle_task.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;

namespace {

/// x and the last of y.
Ids sequence(const Dataset& data, std::int64_t index) {
  Ids x(static_cast<std::size_t>(data.length())), y(x.size());
  data.read(index, {x, y});
  x.push_back(y.back());
  return x;
}

}  // namespace

TEST_CASE("copy: a pattern of allowed ids repeats, items differ, the same seed gives the same items") {
  const CopyTask task({.vocab_size = 5, .length = 20, .items = 30, .pattern_length = 7});
  std::set<Ids> distinct;
  std::set<std::int64_t> used;
  for (std::int64_t i = 0; i < task.size(); ++i) {
    const Ids ids = sequence(task, i);
    for (std::size_t t = 7; t < ids.size(); ++t) CHECK(ids[t] == ids[t - 7]);
    used.insert(ids.begin(), ids.end());
    distinct.insert(ids);
    CHECK(ids == sequence(CopyTask({.vocab_size = 5, .length = 20, .items = 99, .pattern_length = 7}), i));
  }
  CHECK(used == std::set<std::int64_t>{1, 2, 3, 4});
  CHECK(distinct.size() == 30);
  CHECK(sequence(task, 0) !=
        sequence(CopyTask({.vocab_size = 5, .length = 20, .items = 30, .pattern_length = 7, .seed = 1}), 0));
}

TEST_CASE("copy: only what can be known is asked when only answers count") {
  const CopyTask task({.vocab_size = 5, .length = 10, .items = 1, .pattern_length = 4, .answer_only = true});
  Ids x(10), y(10);
  task.read(0, {x, y});
  for (std::size_t t = 0; t < 10; ++t) CHECK((y[t] == kIgnoreTarget) == (t + 1 < 4));
  CHECK_THROWS_AS(CopyTask({.vocab_size = 1}), UsageError);
  CHECK_THROWS_AS(CopyTask({.pattern_length = 0}), UsageError);
}

TEST_CASE("needle: the value stands `distance` positions before the query and is the last target") {
  for (const std::int64_t distance : {1, 5, 14}) {
    const NeedleTask task({.vocab_size = 6, .length = 16, .items = 40, .distance = distance});
    for (std::int64_t i = 0; i < task.size(); ++i) {
      Ids expected(17, 0);
      const std::int64_t value = task.answer(i);
      CHECK(value >= 1);
      CHECK(value <= 3);
      expected[static_cast<std::size_t>(16 - 1 - distance - 1)] = 5;
      expected[static_cast<std::size_t>(16 - 1 - distance)] = value;
      expected[15] = 4;
      expected[16] = value;
      CHECK(sequence(task, i) == expected);
    }
    CHECK(task.majority_accuracy() >= 1.0 / 3);
    CHECK(task.majority_accuracy() < 0.8);
  }
}

TEST_CASE("needle: random distances fill the range, answers alone can count") {
  const NeedleTask task(
      {.vocab_size = 9, .length = 12, .items = 300, .distance = 10, .random_distance = true, .answer_only = true});
  std::set<std::int64_t> distances;
  for (std::int64_t i = 0; i < task.size(); ++i) {
    Ids x(12), y(12);
    task.read(i, {x, y});
    CHECK(std::count(y.begin(), y.end(), kIgnoreTarget) == 11);
    CHECK(y.back() == task.answer(i));
    const auto key = std::find(x.begin(), x.end(), 8) - x.begin();
    CHECK(x[static_cast<std::size_t>(key) + 1] == task.answer(i));
    distances.insert(11 - key - 1);
  }
  CHECK(distances.size() == 10);
  CHECK(*distances.begin() == 1);
  CHECK(*distances.rbegin() == 10);
}

TEST_CASE("needle: impossible settings are refused") {
  CHECK(contains(error_text<UsageError>([] { NeedleTask({.length = 16, .distance = 0}); }), "it must be 1 to 14"));
  CHECK_THROWS_AS(NeedleTask({.length = 16, .distance = 15}), UsageError);
  CHECK_THROWS_AS(NeedleTask({.vocab_size = 3}), UsageError);
  CHECK_THROWS_AS(NeedleTask({.items = 0}), UsageError);
}
