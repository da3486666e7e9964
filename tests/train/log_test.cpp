#include "train/log.h"

#include "tensor/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "tests/train/file_size_limit.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <limits>

using namespace sq;

TEST_CASE("metrics lines are appended in the order of their keys") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  {
    MetricsFile file(path, 0);
    CHECK(file.append({{"step", 1}, {"loss", 2.5}, {"val_loss", 0.1}}));
    CHECK(file.append({{"step", 2}, {"loss", std::numeric_limits<double>::quiet_NaN()}}));
    file.sync();
  }
  CHECK(read_file(path) == "{\"step\":1,\"loss\":2.5,\"val_loss\":0.1}\n{\"step\":2,\"loss\":null}\n");
}

TEST_CASE("a resumed run cuts the lines after its step, and a line without an end") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  const std::string kept = "{\"step\":1}\n{\"step\":2}\n";
  replace_file(path, kept + "{\"step\":3}\n{\"step\":4,\"lo");
  MetricsFile(path, 3);
  CHECK(read_file(path) == kept + "{\"step\":3}\n");
  MetricsFile file(path, 2);
  CHECK(read_file(path) == kept);
  file.append({{"step", 3}, {"loss", 1}});
  CHECK(read_file(path) == kept + "{\"step\":3,\"loss\":1}\n");
}

TEST_CASE("a file that holds something else is refused and left alone") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  replace_file(path, "{\"step\":1}\n{\"stop\":2}\n");
  CHECK(test::contains(test::error_text<UsageError>([&] { MetricsFile(path, 5); }), "line 2 is no record"));
  replace_file(path, "hello\n");
  CHECK(test::contains(test::error_text<UsageError>([&] { MetricsFile(path, 5); }), "line 1: not valid JSON"));
  CHECK(read_file(path) == "hello\n");
  CHECK_THROWS_AS(MetricsFile(folder.path() / "no" / "metrics.jsonl", 0), Error);
}

TEST_CASE("lines that a full disk refused are written once there is room") {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  std::string expected;
  MetricsFile file(path, 0);
  {
    const test::FileSizeLimit limit(100);
    bool refused = false;
    for (int step = 1; step <= 20; ++step) {
      refused |= !file.append({{"step", step}});
      expected += "{\"step\":" + std::to_string(step) + "}\n";
    }
    CHECK(refused);
    CHECK(test::contains(test::error_text<Error>([&] { file.sync(); }), "cannot write"));
    const std::string so_far = read_file(path);
    CHECK(so_far.ends_with("}\n"));
    CHECK(expected.starts_with(so_far));
  }
  CHECK(file.append({{"step", 21}}));
  CHECK(read_file(path) == expected + "{\"step\":21}\n");
}
