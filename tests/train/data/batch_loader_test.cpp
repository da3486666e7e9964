#include "train/data/batch_loader.h"

#include "tensor/error.h"
#include "train/data/tasks.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <chrono>

using namespace sq;

namespace {

constexpr std::int64_t kItems = 23;

std::unique_ptr<EpochBatches> source(std::optional<std::int64_t> epochs = 4) {
  const auto task =
      TaskConfig::from_json({{"type", "copy"}, {"pattern_length", 3}}, "task").data(6, 42, TaskPart::training, kItems);
  return std::make_unique<EpochBatches>(task, EpochOptions{.batch_size = 5, .epochs = epochs});
}

/// Counts from 1 and fails at `failure`; slow where told.
class Counting final : public BatchSource {
 public:
  Counting(std::int64_t failure, std::chrono::microseconds pause, std::atomic<std::int64_t>& made)
      : failure_(failure), pause_(pause), made_(made) {}
  bool next(Batch& batch) override {
    std::this_thread::sleep_for(pause_);
    if (++count_ == failure_) throw UsageError("the data end here");
    batch.resize(1, 1);
    batch.x[0] = count_;
    made_ = count_;
    return true;
  }
  SourceState state() const override {
    return [count = count_]() -> Json { return {{"count", count}}; };
  }
  void restore(const Json&) override {}

 private:
  std::int64_t count_ = 0, failure_;
  std::chrono::microseconds pause_;
  std::atomic<std::int64_t>& made_;
};

}  // namespace

TEST_CASE("the loader gives the batches of its source, in order, whatever its depth") {
  for (const std::int64_t depth : {1, 2, 7, 100}) {
    const auto plain = source();
    BatchLoader loader(source(), depth);
    Batch expected, got;
    while (plain->next(expected)) {
      REQUIRE(loader.next(got));
      REQUIRE(got.x == expected.x);
      REQUIRE(got.y == expected.y);
      REQUIRE(got.rows == expected.rows);
      REQUIRE(got.epoch == expected.epoch);
      REQUIRE(got.ends_epoch == expected.ends_epoch);
    }
    const std::vector<std::int64_t> last = got.x;
    CHECK_FALSE(loader.next(got));
    CHECK_FALSE(loader.next(got));
    CHECK(got.x == last);
  }
  CHECK_THROWS_AS(BatchLoader(source(), 0), UsageError);
}

TEST_CASE("the loader's state is that of the last batch consumed, and resumes exactly") {
  const auto plain = source();
  std::vector<std::vector<std::int64_t>> all;
  for (Batch batch; plain->next(batch);) all.push_back(batch.x);
  for (std::size_t cut = 0; cut < all.size(); cut += 3) {
    Json state;
    {
      BatchLoader loader(source(), 6);  // runs ahead of what is consumed
      Batch batch;
      for (std::size_t i = 0; i < cut; ++i) REQUIRE(loader.next(batch));
      state = loader.state();
    }
    auto resumed = source();
    resumed->restore(state);
    BatchLoader loader(std::move(resumed), 3);
    Batch batch;
    for (std::size_t i = cut; i < all.size(); ++i) {
      REQUIRE(loader.next(batch));
      REQUIRE(batch.x == all[i]);
    }
    CHECK_FALSE(loader.next(batch));
  }
}

TEST_CASE("an exception comes out behind the batches before it, and again") {
  std::atomic<std::int64_t> made = 0;
  BatchLoader loader(std::make_unique<Counting>(4, std::chrono::microseconds(0), made), 8);
  Batch batch;
  for (std::int64_t i = 1; i <= 3; ++i) {
    REQUIRE(loader.next(batch));
    CHECK(batch.x[0] == i);
  }
  CHECK_THROWS_WITH_AS(loader.next(batch), "the data end here", UsageError);
  CHECK_THROWS_WITH_AS(loader.next(batch), "the data end here", UsageError);
  CHECK(loader.state().at("count") == 3);
}

TEST_CASE("the loader runs ahead by its depth and not more") {
  std::atomic<std::int64_t> made = 0;
  BatchLoader loader(std::make_unique<Counting>(-1, std::chrono::microseconds(0), made), 3);
  Batch batch;
  for (std::int64_t i = 1; i <= 200; ++i) {
    REQUIRE(loader.next(batch));
    CHECK(batch.x[0] == i);
    CHECK(made <= i + 4);  // three waiting, one in the making
  }
}

TEST_CASE("a loader stops whether idle, full or in the middle of a batch") {
  std::atomic<std::int64_t> made = 0;
  for (int i = 0; i < 20; ++i) {
    BatchLoader untouched(source(std::nullopt));
    BatchLoader busy(std::make_unique<Counting>(-1, std::chrono::microseconds(100), made), 2);
    Batch batch;
    for (int n = 0; n < i % 3; ++n) (void)busy.next(batch);
  }
  BatchLoader finished(source(1));
  for (Batch batch; finished.next(batch);) {
  }
}
