#include "train/progress.h"

#include <doctest/doctest.h>

#include <limits>

using namespace sq;

namespace {

/// What a Progress wrote, on a clock set by hand.
class Recorded {
 public:
  explicit Recorded(ProgressOptions options) {
    options.out = file_ = std::tmpfile();
    options.clock = [this] { return now; };
    progress = std::make_unique<Progress>(options);
  }
  ~Recorded() {
    progress.reset();
    std::fclose(file_);
  }
  std::string text() {
    std::string content(static_cast<std::size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    const std::size_t count = std::fread(content.data(), 1, content.size(), file_);
    content.resize(count);
    std::fseek(file_, 0, SEEK_END);
    return content;
  }

  double now = 0;
  std::unique_ptr<Progress> progress;

 private:
  std::FILE* file_;
};

StepReport report(std::int64_t step, std::int64_t last = 4) {
  return {.step = step, .last_step = last, .smoothed_loss = 2.5 / static_cast<double>(step), .tokens_per_s = 12345};
}

}  // namespace

TEST_CASE("durations and large numbers are short and rounded") {
  CHECK(duration_text(0) == "0 s");
  CHECK(duration_text(59.4) == "59 s");
  CHECK(duration_text(59.6) == "1 min 00 s");
  CHECK(duration_text(185) == "3 min 05 s");
  CHECK(duration_text(2 * 3600 + 7 * 60 + 59) == "2 h 07 min");
  CHECK(duration_text(3 * 86400 + 4 * 3600) == "3 d 04 h");
  CHECK(duration_text(-1) == "0 s");
  CHECK(short_number(0) == "0");
  CHECK(short_number(999.4) == "999");
  CHECK(short_number(999.6) == "1.0k");
  CHECK(short_number(12345) == "12.3k");
  CHECK(short_number(99960) == "100k");
  CHECK(short_number(999600) == "1.0M");
  CHECK(short_number(4.5e6) == "4.5M");
  CHECK(short_number(7e9) == "7.0G");
}

TEST_CASE("a line shows where the run stands and is cut to the width") {
  StepReport r = report(2);
  CHECK(progress_line(r, 80, 200) == "[============>           ] 2/4  loss 1.2500  12.3k tokens/s  1 min 20 s left");
  r.val_loss = 1.5;
  CHECK(progress_line(r, -1, 200) == "[============>           ] 2/4  loss 1.2500  val 1.5000  12.3k tokens/s");
  CHECK(progress_line(report(4), 0, 30) == "[========================] 4/4");
  CHECK(progress_line(report(5, 0), -1, 200) == "step 5  loss 0.5000  12.3k tokens/s");
}

TEST_CASE("without a terminal there is a line at the start, now and then, with evaluations, and at the end") {
  Recorded recorded({.line_seconds = 10});
  for (std::int64_t step = 1; step <= 40; ++step) {
    StepReport r = report(step, 0);
    if (step == 3) r.val_loss = 9;
    recorded.progress->step(r);
    recorded.now += 1;
  }
  recorded.progress->finish();
  recorded.progress->finish();
  std::vector<std::string> steps;
  const std::string text = recorded.text();
  for (std::size_t at = 0; (at = text.find("step ", at)) != std::string::npos; ++at)
    steps.push_back(text.substr(at + 5, text.find(' ', at + 5) - at - 5));
  CHECK(steps == std::vector<std::string>{"1", "3", "13", "23", "33", "40"});
  CHECK(text.find('\r') == std::string::npos);
}

TEST_CASE("the time left is what the steps so far took, times those to come") {
  Recorded recorded({.line_seconds = 0});
  recorded.progress->step(report(11, 21));
  recorded.now = 8;
  recorded.progress->step(report(13, 21));
  CHECK(recorded.text().ends_with("tokens/s  32 s left\n"));
}

TEST_CASE("the speed shown is that of the last few steps together") {
  Recorded recorded({.line_seconds = 0});
  StepReport r = report(1);
  r.seconds = 1, r.tokens_per_s = 200;
  recorded.progress->step(r);
  r.seconds = 9, r.tokens_per_s = 20;  // 180 tokens
  recorded.progress->step(r);
  CHECK(recorded.text().find("  200 tokens/s") != std::string::npos);
  CHECK(recorded.text().find("  36 tokens/s") != std::string::npos);  // (0.9 · 200 + 180) / (0.9 · 1 + 9)
}

TEST_CASE("on a terminal one line changes in place, and notices stand above it") {
  Recorded recorded({.live = true, .width = 70});
  recorded.progress->step(report(1));
  const std::string first = recorded.text();
  CHECK(first.starts_with("\r["));
  CHECK(first.find('\n') == std::string::npos);
  recorded.progress->step(report(2));  // too soon to draw again
  CHECK(recorded.text() == first);
  recorded.progress->notice("careful");
  CHECK(recorded.text() == first + "\r" + std::string(first.size() - 1, ' ') + "\rcareful\n" + first.substr(1));
  recorded.progress->finish();
  CHECK(recorded.text().ends_with("\n"));
  CHECK(recorded.text().find("2/4") != std::string::npos);  // the last state is not lost
}

TEST_CASE("quiet shows notices only") {
  Recorded recorded({.quiet = true});
  recorded.progress->step(report(1));
  recorded.progress->notice("careful");
  recorded.progress->finish();
  CHECK(recorded.text() == "careful\n");
}
