#include "train/data/batch.h"

#include "tests/train/error_text.h"
#include "train/data/copy_task.h"
#include "train/data/permutation.h"
#include "train/data/windows.h"
#include "train/tokenizers/byte_tokenizer.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <set>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;

namespace {

std::shared_ptr<const Dataset> numbers(std::int64_t count) {
  // Item i is x = [i], y = [i+1]: a batch shows its item numbers.
  auto tokens = std::make_shared<TokenArray>();
  for (std::int64_t i = 0; i <= count; ++i) tokens->append(Ids{i});
  return std::make_shared<TextWindows>(TokenSpan(tokens), 1);
}

std::vector<Ids> next_batches(BatchSource& source, int count) {
  std::vector<Ids> result;
  Batch batch;
  for (int i = 0; i < count && source.next(batch); ++i) {
    result.push_back(batch.x);
    result.back().insert(result.back().end(), batch.y.begin(), batch.y.end());
  }
  return result;
}

TokenSpan text(std::int64_t length) {
  return tokens_of(ByteTokenizer(), std::string(static_cast<std::size_t>(length), 'a') + "b");
}

}  // namespace

TEST_CASE("a permutation holds every item once, for any count") {
  for (const std::int64_t count : {1, 2, 3, 4, 5, 9, 10, 16, 17, 100, 1000, 12345}) {
    std::vector<bool> seen(static_cast<std::size_t>(count), false);
    const Permutation order(count, 7, 3);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t item = order(i);
      REQUIRE(item >= 0);
      REQUIRE(item < count);
      REQUIRE_FALSE(seen[static_cast<std::size_t>(item)]);
      seen[static_cast<std::size_t>(item)] = true;
    }
  }
  const std::int64_t huge = std::int64_t{1} << 62;
  const Permutation order(huge, 7, 3);
  CHECK(order(0) != order(huge - 1));
  CHECK_THROWS_AS(order(huge), Error);
  CHECK_THROWS_AS(order(-1), Error);
  CHECK_THROWS_AS(Permutation(0, 1, 1)(0), Error);
}

TEST_CASE("permutations look random: places and neighbours are evenly spread over epochs") {
  for (const std::int64_t count : {2, 3, 4, 5, 10}) {
    CAPTURE(count);
    const int epochs = 4000;
    std::map<std::pair<std::int64_t, std::int64_t>, int> places, neighbours;
    for (int epoch = 0; epoch < epochs; ++epoch) {
      const Permutation order(count, 11, epoch);
      for (std::int64_t i = 0; i < count; ++i) {
        ++places[{i, order(i)}];
        if (i > 0) ++neighbours[{order(i - 1), order(i)}];
      }
    }
    // Each of count² (place, item) cells expects epochs/count; a cell's deviation is about its root.
    const double expected = static_cast<double>(epochs) / static_cast<double>(count);
    double chi2 = 0;
    for (std::int64_t i = 0; i < count * count; ++i) {
      const double difference = places[{i / count, i % count}] - expected;
      chi2 += difference * difference / expected;
    }
    const double freedom = static_cast<double>((count - 1) * (count - 1));
    CHECK(chi2 < freedom + 5 * std::sqrt(2 * freedom) + 5);
    for (const auto& entry : neighbours) CHECK(std::abs(entry.second - expected) < 6 * std::sqrt(expected));
  }
}

TEST_CASE("an epoch gives every item once; the next epoch another order; the same seed the same batches") {
  EpochBatches source(numbers(10), {.batch_size = 4});
  CHECK(source.batches_per_epoch() == 3);
  std::vector<Ids> orders;
  Batch batch;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    orders.emplace_back();
    for (int i = 0; i < 3; ++i) {
      REQUIRE(source.next(batch));
      CHECK(batch.epoch == epoch);
      CHECK(batch.ends_epoch == (i == 2));
      CHECK(batch.rows == (i == 2 ? 2 : 4));
      orders.back().insert(orders.back().end(), batch.x.begin(), batch.x.end());
    }
    CHECK(std::set<std::int64_t>(orders.back().begin(), orders.back().end()).size() == 10);
  }
  CHECK(orders[0] != orders[1]);
  EpochBatches again(numbers(10), {.batch_size = 4}), other(numbers(10), {.batch_size = 4, .seed = 43});
  const auto expected = next_batches(again, 9);
  CHECK(next_batches(other, 9) != expected);
  again.read(1, 1, batch);
  CHECK(std::equal(batch.x.begin(), batch.x.end(), expected[4].begin()));
  CHECK(batch.inputs().shape() == Shape{4, 1});
  CHECK(batch.targets().to_vector<std::int64_t>() == batch.y);
}

TEST_CASE("epochs in order, without a short last batch, and only so many") {
  EpochBatches plain(numbers(5), {.batch_size = 2, .shuffle = false, .drop_last = true, .epochs = 2});
  const std::vector<Ids> all = next_batches(plain, 100);
  CHECK(all == std::vector<Ids>{{0, 1, 1, 2}, {2, 3, 3, 4}, {0, 1, 1, 2}, {2, 3, 3, 4}});
  CHECK_THROWS_AS(EpochBatches(numbers(5), {.batch_size = 6, .drop_last = true}), UsageError);
  CHECK_THROWS_AS(EpochBatches(numbers(5), {.batch_size = 0}), UsageError);
  CHECK_THROWS_AS(EpochBatches(numbers(5), {.epochs = 0}), UsageError);
}

TEST_CASE("random windows: batch n is a function of n, all places occur, windows end inside the text") {
  const TokenSpan tokens = text(20);
  RandomWindowBatches source(tokens, 18, 5, 1);
  Batch batch;
  std::set<Ids> distinct;
  for (std::int64_t i = 0; i < 20; ++i) {
    source.read(i, batch);
    for (std::int64_t row = 0; row < 5; ++row) {
      const auto y = batch.row(row).y;
      distinct.insert(Ids(y.begin(), y.end()));
    }
  }
  CHECK(distinct.size() == 2);  // 21 ids: starts 0, 1 and 2, of which the first two look alike
  RandomWindowBatches same(tokens, 18, 5, 1);
  const auto expected = next_batches(same, 6);
  source.read(4, batch);
  CHECK(std::equal(batch.x.begin(), batch.x.end(), expected[4].begin()));
  CHECK_THROWS_WITH_AS(
      RandomWindowBatches(tokens, 21, 5, 1, "my.txt"),
      "my.txt: too short: a context of 21 needs 22 tokens, there are 21; use more data or a shorter context",
      UsageError);
}

TEST_CASE("a restored source goes on exactly, in the middle of an epoch too") {
  const auto check = [](auto make) {
    auto whole = make();
    const auto expected = next_batches(*whole, 12);
    for (const int cut : {0, 1, 2, 3, 5}) {
      auto first = make();
      (void)next_batches(*first, cut);
      const SourceState state = first->state();
      (void)next_batches(*first, 2);  // the state stays what it was
      auto second = make();
      second->restore(parse_json(state().dump(), "state"));
      const auto rest = next_batches(*second, 12 - cut);
      CHECK(std::equal(rest.begin(), rest.end(), expected.begin() + cut, expected.end()));
    }
  };
  check([] { return std::make_unique<EpochBatches>(numbers(10), EpochOptions{.batch_size = 4}); });
  check([] { return std::make_unique<EpochBatches>(numbers(9), EpochOptions{.batch_size = 3, .epochs = 2}); });
  check([] { return std::make_unique<RandomWindowBatches>(text(500), 7, 3, 5); });
}

TEST_CASE("a position of another run is refused and says what differs") {
  EpochBatches source(numbers(10), {.batch_size = 4});
  const Json good = source.state()();
  const auto text_for = [&](const char* key, const Json& value) {
    Json bad = good;
    bad[key] = value;
    return error_text<UsageError>([&] { source.restore(bad); });
  };
  CHECK(text_for("seed", 1) == "data position: the run was saved with other data or settings: seed: 1 → 42");
  CHECK(contains(text_for("data", "windows-1"), "data: \"windows-1\" → \"windows-1-1-tokens-11-"));
  CHECK(contains(text_for("batch", 3), "batch 3 is not among the 3 of an epoch"));
  CHECK(contains(text_for("epoch", -1), "\"epoch\" is -1"));
  CHECK(contains(text_for("epoch", "x"), "\"epoch\" must be a whole number"));
  CHECK_THROWS_AS(source.restore(Json::array()), UsageError);
  CHECK_THROWS_AS(source.restore(Json::object()), UsageError);
  RandomWindowBatches windows(text(50), 7, 3, 5);
  CHECK_THROWS_AS(windows.restore(good), UsageError);
}
