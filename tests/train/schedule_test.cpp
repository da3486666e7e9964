#include "train/schedule.h"

#include "tests/train/error_text.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using namespace sq;

TEST_CASE("cosine with warm-up takes the values of nanoGPT's schedule") {
  // Its recipe for characters on a laptop: 1e-3 to 1e-4, 100 steps of warm-up, decay over 2000.
  const Schedule s{.shape = ScheduleShape::cosine,
                   .learning_rate = 1e-3,
                   .min_learning_rate = 1e-4,
                   .warmup_steps = 100,
                   .decay_steps = 2000};
  CHECK(learning_rate_at(s, 0) == doctest::Approx(1e-3 / 101).epsilon(1e-14));
  CHECK(learning_rate_at(s, 99) == doctest::Approx(1e-3 * 100 / 101).epsilon(1e-14));
  CHECK(learning_rate_at(s, 100) == doctest::Approx(1e-3).epsilon(1e-14));
  CHECK(learning_rate_at(s, 1050) == doctest::Approx(5.5e-4).epsilon(1e-14));  // half way
  CHECK(learning_rate_at(s, 575) == doctest::Approx(1e-4 + 4.5e-4 * (1 + std::sqrt(0.5))).epsilon(1e-14));
  CHECK(learning_rate_at(s, 2000) == 1e-4);
  CHECK(learning_rate_at(s, 1'000'000'000'000) == 1e-4);
}

TEST_CASE("linear falls by equal amounts, wsd only at its end, constant never") {
  Schedule s{.shape = ScheduleShape::linear, .learning_rate = 1, .warmup_steps = 3, .decay_steps = 7};
  const auto rates = [&] {
    std::vector<double> out;
    for (std::int64_t step = 0; step < 9; ++step) out.push_back(learning_rate_at(s, step));
    return out;
  };
  CHECK(rates() == std::vector<double>{0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0});
  s.shape = ScheduleShape::wsd;
  s.cooldown_steps = 2;
  s.min_learning_rate = 0.5;
  CHECK(rates() == std::vector<double>{0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.5});
  s.cooldown_steps = 0;
  CHECK(rates() == std::vector<double>{0.25, 0.5, 0.75, 1, 1, 1, 1, 0.5, 0.5});
  s.shape = ScheduleShape::constant;
  CHECK(rates() == std::vector<double>{0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1});
}

TEST_CASE("every shape rises, then never rises again, and stays between its bounds") {
  for (const auto shape : {ScheduleShape::constant, ScheduleShape::linear, ScheduleShape::cosine, ScheduleShape::wsd}) {
    const Schedule s{.shape = shape,
                     .learning_rate = 3e-4,
                     .min_learning_rate = 1e-5,
                     .warmup_steps = 17,
                     .decay_steps = 101,
                     .cooldown_steps = 23};
    validate(s);
    for (std::int64_t step = 1; step < 150; ++step) {
      const double before = learning_rate_at(s, step - 1), rate = learning_rate_at(s, step);
      CAPTURE(step);
      if (step <= s.warmup_steps)
        CHECK(rate > before);
      else
        CHECK(rate <= before);
      CHECK(rate <= s.learning_rate);
      CHECK((step < s.warmup_steps || rate >= s.min_learning_rate));
    }
  }
}

TEST_CASE("a schedule that makes no sense is refused, naming the field and the value") {
  const auto refused = [](const Schedule& s, const std::string& text) {
    CHECK(test::error_text<UsageError>([&] { validate(s); }) == text);
  };
  refused({.learning_rate = std::nan("")}, "learning_rate: nan is not a learning rate; give a finite number >= 0");
  refused({.learning_rate = -1}, "learning_rate: -1 is not a learning rate; give a finite number >= 0");
  refused({.min_learning_rate = INFINITY}, "min_learning_rate: inf is not a learning rate; give a finite number >= 0");
  refused({.warmup_steps = -3}, "warmup_steps: -3 is not a number of steps; give 0 or more");
  refused({.shape = ScheduleShape::cosine, .learning_rate = 1, .min_learning_rate = 2, .decay_steps = 5},
          "min_learning_rate: 2 exceeds learning_rate 1");
  refused({.shape = ScheduleShape::linear, .warmup_steps = 5, .decay_steps = 5},
          "decay_steps: 5 leaves no room after the 5 steps of warmup_steps");
  refused({.shape = ScheduleShape::wsd, .warmup_steps = 5, .decay_steps = 9, .cooldown_steps = 5},
          "cooldown_steps: 5 does not fit between warmup_steps 5 and decay_steps 9");
  CHECK_NOTHROW(validate({.warmup_steps = 5}));
}
