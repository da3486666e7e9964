#include "train/data/tasks.h"

#include "tests/train/error_text.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

using namespace sq;
using test::contains;
using test::error_text;
using Ids = std::vector<std::int64_t>;

namespace {

struct Sample {
  Ids x, y;
  bool operator==(const Sample&) const = default;

  std::vector<std::size_t> asked() const {
    std::vector<std::size_t> places;
    for (std::size_t t = 0; t < y.size(); ++t)
      if (y[t] != kIgnoreTarget) places.push_back(t);
    return places;
  }
};

TaskConfig config(const Json& json) { return TaskConfig::from_json(json, "task"); }

Sample read(const Dataset& data, std::int64_t index) {
  Sample sample{Ids(static_cast<std::size_t>(data.length()), -7), Ids(static_cast<std::size_t>(data.length()), -7)};
  data.read(index, {sample.x, sample.y});
  return sample;
}

/// `count` samples of a task, checked for ids inside the vocabulary.
std::vector<Sample> samples(const Json& json, std::int64_t length, std::int64_t count = 60, std::uint64_t seed = 42,
                            TaskPart part = TaskPart::training) {
  const TaskConfig task = config(json);
  const auto data = task.data(length, seed, part);
  const std::int64_t vocabulary = task.make(length)->vocab_size();
  std::vector<Sample> result;
  for (std::int64_t i = 0; i < count; ++i) {
    result.push_back(read(*data, i));
    for (const std::int64_t id : result.back().x) CHECK((id >= 0 && id < vocabulary));
    for (const std::size_t t : result.back().asked())
      CHECK((result.back().y[t] >= 0 && result.back().y[t] < vocabulary));
    CHECK(!result.back().asked().empty());
  }
  return result;
}

std::string refusal(const Json& json, std::int64_t length) {
  return error_text<UsageError>([&] { config(json).make(length); });
}

}  // namespace

TEST_CASE("tasks: a sample depends on seed, part and number alone; streams do not overlap") {
  for (const TaskEntry& entry : task_registry()) {
    CAPTURE(entry.name);
    const Json json{{"type", entry.name}};
    const auto first = samples(json, 64), again = samples(json, 64), other = samples(json, 64, 60, 43),
               validation = samples(json, 64, 60, 42, TaskPart::validation);
    CHECK(first == again);
    // Needle's samples are few enough to meet by chance.
    const auto same = [&](const std::vector<Sample>& samples) {
      return std::count_if(samples.begin(), samples.end(),
                           [&](const Sample& s) { return std::find(first.begin(), first.end(), s) != first.end(); });
    };
    CHECK(same(other) <= (entry.name == "needle" ? 6 : 0));
    CHECK(same(validation) <= (entry.name == "needle" ? 6 : 0));
    CHECK(read(*config(json).data(64, 42, TaskPart::training), 17) == first[17]);
    CHECK(config(json).data(64, 42, TaskPart::training)->fingerprint() !=
          config(json).data(64, 42, TaskPart::validation)->fingerprint());
  }
}

TEST_CASE("copy: a pattern of allowed ids repeats; asked from the end of the first one on") {
  std::set<std::int64_t> used;
  for (const Sample& s : samples({{"type", "copy"}, {"vocab_size", 5}, {"pattern_length", 7}}, 20)) {
    for (std::size_t t = 7; t < 20; ++t) CHECK(s.x[t] == s.x[t - 7]);
    for (std::size_t t = 0; t < 20; ++t) CHECK(s.y[t] == (t < 6 ? kIgnoreTarget : s.x[(t + 1) % 7]));
    used.insert(s.x.begin(), s.x.end());
  }
  CHECK(used == std::set<std::int64_t>{1, 2, 3, 4});
}

TEST_CASE("needle: the value stands `distance` positions before the question") {
  std::set<std::int64_t> distances;
  for (const std::int64_t distance : {0, 1, 5, 10})
    for (const Sample& s : samples({{"type", "needle"}, {"vocab_size", 9}, {"distance", distance}}, 12, 100)) {
      const auto key = std::find(s.x.begin(), s.x.end(), 8);
      REQUIRE(key != s.x.end());
      CHECK(s.x.back() == 7);
      CHECK(s.asked() == std::vector<std::size_t>{11});
      CHECK(s.y[11] == key[1]);
      CHECK((key[1] >= 1 && key[1] <= 6));
      CHECK(std::count(s.x.begin(), s.x.end(), 0) == 9);
      const std::int64_t found = s.x.end() - key - 2;
      if (distance > 0) CHECK(found == distance);
      if (distance == 0) distances.insert(found);
    }
  CHECK(distances == std::set<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
}

TEST_CASE("mqar: different keys, then each of them asked once for the value that stood behind it") {
  for (const bool filler : {true, false})
    for (const Sample& s :
         samples({{"type", "mqar"}, {"vocab_size", 40}, {"pairs", 6}, {"random_filler", filler}}, 37)) {
      std::map<std::int64_t, std::int64_t> value_of;
      std::set<std::int64_t> values;
      for (std::size_t i = 0; i < 12; i += 2) {
        CHECK((s.x[i] >= 1 && s.x[i] < 20));
        CHECK((s.x[i + 1] >= 20 && s.x[i + 1] < 40));
        value_of[s.x[i]] = s.x[i + 1];
        values.insert(s.x[i + 1]);
      }
      CHECK(value_of.size() == 6);
      CHECK(values.size() == 6);
      std::set<std::int64_t> asked;
      for (const std::size_t t : s.asked()) {
        CHECK(t >= 12);
        CHECK(t % 2 == 0);
        REQUIRE(value_of.count(s.x[t]) == 1);
        CHECK(s.y[t] == value_of[s.x[t]]);
        asked.insert(s.x[t]);
      }
      CHECK(asked.size() == 6);
      CHECK(s.asked().size() == 6);
      if (!filler) CHECK(std::count(s.x.begin(), s.x.end(), 0) == 37 - 18);
    }
}

TEST_CASE("mqar: training may begin with fewer pairs; validation has all of them") {
  const Json json{{"type", "mqar"}, {"vocab_size", 40}, {"pairs", 6}, {"fewest_pairs", 2}};
  std::set<std::size_t> counts;
  for (const Sample& s : samples(json, 30, 200)) {
    counts.insert(s.asked().size());
    for (const std::size_t t : s.asked()) {
      const auto pairs = s.x.begin() + static_cast<std::ptrdiff_t>(2 * s.asked().size());
      CHECK(t >= 2 * s.asked().size());
      const auto key = std::find(s.x.begin(), pairs, s.x[t]);
      REQUIRE(key != pairs);
      CHECK(s.y[t] == key[1]);
    }
  }
  CHECK(counts == std::set<std::size_t>{2, 3, 4, 5, 6});
  for (const Sample& s : samples(json, 30, 50, 42, TaskPart::validation)) CHECK(s.asked().size() == 6);
  CHECK(contains(refusal({{"type", "mqar"}, {"pairs", 4}, {"fewest_pairs", 5}}, 64),
                 "task mqar: fewest_pairs is 5 but must be at most pairs, which is 4"));
}

TEST_CASE("mqar: the power law asks soon, power 1 asks anywhere") {
  const auto mean_gap = [](double power) {
    double sum = 0;
    for (const Sample& s : samples({{"type", "mqar"}, {"vocab_size", 64}, {"pairs", 4}, {"power", power}}, 128, 200))
      for (const std::size_t t : s.asked()) sum += static_cast<double>((t - 8) / 2);
    return sum / 800;
  };
  // Even chances for 60 gaps: the mean is 29.5 with a deviation of 0.6 over 800 of them.
  CHECK(mean_gap(1) == doctest::Approx(29.5).epsilon(0.1));
  CHECK(mean_gap(0.01) < 20);
}

TEST_CASE("draws without replacement follow their weights") {
  // Of weights 1, 2 and 5 the first draw is the third with 5/8; the second is then the second with 2/3.
  const std::vector<double> weights{1, 2, 5};
  int third = 0, then_second = 0;
  for (std::uint64_t i = 0; i < 4000; ++i) {
    const Ids places = TaskDraws(1, i).weighted(2, weights);
    CHECK(places[0] != places[1]);
    third += places[0] == 2;
    then_second += places[0] == 2 && places[1] == 1;
  }
  CHECK(third == doctest::Approx(2500).epsilon(0.05));
  CHECK(then_second == doctest::Approx(2500 * 2.0 / 3).epsilon(0.06));
  Ids all = TaskDraws(3, 4).distinct(50, 50);
  CHECK(!std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  CHECK(all == [] {
    Ids numbers(50);
    for (std::size_t i = 0; i < 50; ++i) numbers[i] = static_cast<std::int64_t>(i);
    return numbers;
  }());
  CHECK_THROWS_AS(TaskDraws(3, 4).distinct(6, 5), Error);
}

TEST_CASE("selective copy: what is not noise comes back in order, at the marks") {
  std::set<std::vector<std::size_t>> layouts;
  for (const Sample& s : samples({{"type", "selective_copy"}, {"vocab_size", 7}, {"tokens", 5}}, 23)) {
    Ids kept, answers;
    std::vector<std::size_t> places;
    for (std::size_t t = 0; t < 18; ++t)
      if (s.x[t] != 0) kept.push_back(s.x[t]), places.push_back(t);
    for (std::size_t t = 18; t < 23; ++t) {
      CHECK(s.x[t] == 1);
      answers.push_back(s.y[t]);
    }
    CHECK(kept == answers);
    CHECK(kept.size() == 5);
    CHECK(*std::min_element(kept.begin(), kept.end()) >= 2);
    CHECK(s.asked().front() == 18);
    layouts.insert(places);
  }
  CHECK(layouts.size() > 50);
}

TEST_CASE("induction: the last position asks for what followed the trigger, which stands nowhere else") {
  std::set<std::ptrdiff_t> places;
  for (const Sample& s : samples({{"type", "induction"}, {"vocab_size", 5}}, 9, 200)) {
    CHECK(std::count(s.x.begin(), s.x.end(), 4) == 2);
    CHECK(s.x.back() == 4);
    const auto first = std::find(s.x.begin(), s.x.end(), 4);
    CHECK(s.asked() == std::vector<std::size_t>{8});
    CHECK(s.y.back() == first[1]);
    places.insert(first - s.x.begin());
  }
  CHECK(places == std::set<std::ptrdiff_t>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("tasks: impossible settings are refused by the rule they break") {
  CHECK(contains(refusal({{"type", "mqar"}, {"pairs", 17}}, 64),
                 "task mqar: 17 pairs are not possible in a length of 64; pairs take 2 positions each and questions as "
                 "many again, so 4·pairs <= length"));
  CHECK(contains(refusal({{"type", "mqar"}, {"pairs", 8}, {"vocab_size", 16}}, 64), "so pairs <= vocab_size/2 - 1"));
  CHECK_NOTHROW(config({{"type", "mqar"}, {"pairs", 16}, {"vocab_size", 34}}).make(64));
  CHECK(contains(refusal({{"type", "selective_copy"}, {"tokens", 9}}, 17), "so 2·tokens <= length"));
  CHECK(contains(refusal({{"type", "induction"}}, 2), "a length of 2 is not possible"));
  CHECK(contains(refusal({{"type", "needle"}, {"distance", 15}}, 16), "it must be at most length - 2, which is 14"));
  CHECK(contains(refusal({{"type", "copy"}, {"pattern_length", 9}}, 8), "so pattern_length <= length"));
  CHECK(contains(refusal({{"type", "mqar"}, {"pairs", 0}}, 64), "task.pairs is 0 but must be an integer from 1"));
  CHECK(contains(refusal({{"type", "mqar"}, {"pair", 3}}, 64), "unknown key 'task.pair'; did you mean 'pairs'?"));
  CHECK(
      contains(refusal("mqr", 64),
               "task is 'mqr' but must be one of copy, needle, mqar, selective_copy, induction; did you mean 'mqar'?"));
  CHECK(contains(refusal({{"type", "none"}, {"pairs", 3}}, 64), "its type is 'none'"));
}

TEST_CASE("tasks: a configuration keeps what it was given") {
  const TaskConfig task = config({{"type", "mqar"}, {"pairs", 3}});
  CHECK(task.to_json() == config(task.to_json()).to_json());
  CHECK(task.to_json()["pairs"] == 3);
  CHECK(task.to_json()["vocab_size"] == 8192);
  CHECK(TaskConfig().to_json() == "none");
  CHECK(config("none").is_none());
}
