// A run that was stopped, killed or damaged and resumed against one that was left alone.
#include "tensor/cpu/threads.h"
#include "tensor/file.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "tests/train/file_size_limit.h"
#include "tests/train/toy.h"
#include "train/trainer.h"

#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <sys/wait.h>
#include <unistd.h>

using namespace sq;
namespace fs = std::filesystem;
using test::ToyModel;

namespace {

/// The run of these tests: dropout, shuffled epochs of 11 rows in batches of 2, so groups of 3 and 3 batches, the
/// second of them with a short batch, and checkpoints every 4 steps.
constexpr std::int64_t kSteps = 14;

TrainerOptions options_of_run() {
  return {
      .steps = kSteps,
      .accumulation = 3,
      .save_every = 4,
      .keep_checkpoints = 2,
      .optimizer = {.weight_decay = 0.1},
      .schedule = {.shape = ScheduleShape::cosine, .learning_rate = 0.05, .warmup_steps = 2, .decay_steps = kSteps}};
}

struct Part {
  bool resume = false;
  int stop_at_call = 0;  // of the loss; 0 = never
  std::function<void(int)> at_call = {};
  std::function<void(const StepReport&)> on_step = {};
  std::function<void(const std::string&)> notice = {};
  int threads = 1;
  std::int64_t eval_every = 0;
  std::int64_t eval_batch_size = 8;
  std::int64_t decay_steps = kSteps;
  std::unique_ptr<BatchSource> data = {};
  Json config = {{"hidden", 8}, {"seed", 5}};
};

/// One call of the program: a fresh model and generator, as after starting it anew.
TrainingResult train_part(const fs::path& folder, Part part) {
  default_generator() = Generator(part.resume ? 999 : 9);
  ToyModel model(0.3);
  cpu::set_thread_count(part.threads);  // until the model goes
  std::atomic<bool> stop = false;
  model.before_loss = [&](int call) {
    if (call == part.stop_at_call) stop = true;
    if (part.at_call) part.at_call(call);
  };
  TrainerOptions options = options_of_run();
  options.eval_every = part.eval_every;
  options.eval_batch_size = part.eval_batch_size;
  options.schedule.decay_steps = part.decay_steps;
  TrainingJob job{.model = model,
                  .loss = model.loss_function(),
                  .data = part.data ? std::move(part.data) : test::toy_batches(11, 2, true),
                  .validation = std::make_shared<test::SuccessorData>(6),
                  .folder = folder,
                  .config = part.config,
                  .stop = &stop,
                  .on_step = part.on_step,
                  .notice = part.notice};
  Trainer trainer(std::move(job), options);
  if (part.resume) trainer.resume();
  return trainer.run();
}

/// Everything about a finished run that must not depend on how it came about.
struct Traces {
  std::string model, optimizer, state;
  std::vector<Json> metrics;  // without the speed
  bool operator==(const Traces&) const = default;
};

Traces traces(const fs::path& folder) {
  const fs::path last = folder / "checkpoints" / fmt::format("step-{}", kSteps);
  Traces out{read_file(last / "model.safetensors"),
             read_file(last / "optimizer.safetensors"),
             read_file(last / "state.json"),
             {}};
  const std::string text = read_file(folder / "metrics.jsonl");
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    Json line = parse_json(text.substr(begin, end - begin), "metrics");
    line.erase("tokens_per_s");
    out.metrics.push_back(line);
  }
  return out;
}

const Traces& undisturbed() {
  static const Traces result = [] {
    const test::TemporaryFolder folder;
    train_part(folder.path(), {});
    return traces(folder.path());
  }();
  return result;
}

void check_same(const fs::path& folder) {
  const Traces got = traces(folder);
  CHECK((got.model == undisturbed().model));
  CHECK((got.optimizer == undisturbed().optimizer));
  CHECK(got.state == undisturbed().state);
  CHECK(got.metrics == undisturbed().metrics);
}

/// Runs the hidden test case below in a process of its own and returns how it ended.
int train_in_child(const fs::path& folder, const char* how, int when) {
  ::setenv("SUBQUAD_TEST_RUN", folder.c_str(), 1);
  ::setenv("SUBQUAD_TEST_END", how, 1);
  ::setenv("SUBQUAD_TEST_WHEN", std::to_string(when).c_str(), 1);
  const std::string device = "--device=" + name(default_device());
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/proc/self/exe", "train_test", "--no-skip", "--test-case=child: a run that is killed", device.c_str(),
            nullptr);
    ::_exit(1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

TEST_CASE("the undisturbed run is what it is meant to be") {
  const Traces& run = undisturbed();
  REQUIRE(run.metrics.size() == kSteps);
  const Json state = parse_json(run.state, "state");
  CHECK(state["step"] == kSteps);
  CHECK(state["epochs"].size() == 7);
  CHECK(state["generator"]["next_stream"] == 7 * 6);  // a stream for each batch: dropout was on
  CHECK(run.metrics[0]["loss"] != run.metrics[2]["loss"]);
}

TEST_CASE("stopped at any batch and resumed, the run ends in the same bits") {
  // Two epochs batch by batch, around a checkpoint, and the end.
  for (const int call : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 40, 41, 42}) {
    CAPTURE(call);
    const test::TemporaryFolder folder;
    const TrainingResult first = train_part(folder.path(), {.stop_at_call = call});
    CHECK(first.interrupted);
    CHECK(first.step == call / 3);  // a step whose last batch was under way is completed, another one is taken back
    const TrainingResult second = train_part(folder.path(), {.resume = true});
    CHECK_FALSE(second.interrupted);
    CHECK(second.step == kSteps);
    check_same(folder.path());
  }
}

TEST_CASE("stopped again and again") {
  const test::TemporaryFolder folder;
  bool resume = false;
  int parts = 0;
  for (bool interrupted = true; interrupted; resume = true, ++parts)
    interrupted = train_part(folder.path(), {.resume = resume, .stop_at_call = 4}).interrupted;
  CHECK(parts == kSteps);  // each one step and a bit
  check_same(folder.path());
}

TEST_CASE("a run stopped before its first step, and one that was finished, can be resumed") {
  const test::TemporaryFolder folder;
  CHECK(train_part(folder.path(), {.stop_at_call = 1}).step == 0);
  CHECK(checkpoint_steps(folder.path()) == std::vector<std::int64_t>{0});
  train_part(folder.path(), {.resume = true});
  check_same(folder.path());
  CHECK(train_part(folder.path(), {.resume = true}).step == kSteps);
  check_same(folder.path());
}

TEST_CASE("an interrupted trainer can simply go on") {
  const test::TemporaryFolder folder;
  default_generator() = Generator(9);
  ToyModel model(0.3);
  std::atomic<bool> stop = false;
  model.before_loss = [&](int call) { stop = call % 5 == 0; };
  TrainingJob job{.model = model,
                  .loss = model.loss_function(),
                  .data = test::toy_batches(11, 2, true),
                  .validation = std::make_shared<test::SuccessorData>(6),
                  .folder = folder.path(),
                  .config = {{"hidden", 8}, {"seed", 5}},
                  .stop = &stop};
  Trainer trainer(std::move(job), options_of_run());
  int parts = 1;
  for (; trainer.run().interrupted; ++parts) stop = false;
  CHECK(parts > 5);
  check_same(folder.path());
}

TEST_CASE("stopped in an evaluation, a run makes up for it when it is resumed") {
  const auto run = [](const fs::path& folder, bool resume, int stop_at_call) {
    return train_part(folder, {.resume = resume, .stop_at_call = stop_at_call, .eval_every = 3, .eval_batch_size = 2});
  };
  const test::TemporaryFolder whole;
  run(whole.path(), false, 0);
  const Traces expected = traces(whole.path());
  CHECK((expected.model == undisturbed().model));
  for (const int call : {3 * 3, 3 * 3 + 1, 3 * 3 + 2}) {  // before, in and after the evaluation of step 3
    const test::TemporaryFolder folder;
    const TrainingResult first = run(folder.path(), false, call);
    CHECK(first.step == 3);
    CHECK(first.interrupted);
    CHECK(first.val_loss.has_value() == false);
    run(folder.path(), true, 0);
    CHECK((traces(folder.path()) == expected));
  }
}

TEST_CASE("the bits do not depend on the number of threads") {
  const test::TemporaryFolder folder;
  train_part(folder.path(), {.threads = 2});
  check_same(folder.path());
}

TEST_CASE("child: a run that is killed" * doctest::skip()) {
  const char* folder = std::getenv("SUBQUAD_TEST_RUN");
  if (!folder) return;
  const std::string how = std::getenv("SUBQUAD_TEST_END");
  const int when = std::atoi(std::getenv("SUBQUAD_TEST_WHEN"));
  Part part{.resume = !checkpoint_steps(folder).empty()};
  if (how == "kill at call")
    part.at_call = [when](int call) {
      if (call == when) std::raise(SIGKILL);
    };
  if (how == "die while saving")  // in the middle of writing the model
    part.on_step = [when](const StepReport& report) {
      if (report.step != when) return;
      const rlimit tiny{200, 200};
      ::setrlimit(RLIMIT_FSIZE, &tiny);
    };
  train_part(folder, std::move(part));
}

TEST_CASE("killed in the middle of a step and resumed, the run ends in the same bits") {
  for (const int call : {13, 15, 26, 42}) {
    CAPTURE(call);
    const test::TemporaryFolder folder;
    const int status = train_in_child(folder.path(), "kill at call", call);
    REQUIRE(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
    CHECK(checkpoint_steps(folder.path()).back() == (call - 1) / 12 * 4);
    train_part(folder.path(), {.resume = true});
    check_same(folder.path());
  }
}

TEST_CASE("killed while a checkpoint is written, the run goes on from the one before") {
  const test::TemporaryFolder folder;
  const int status = train_in_child(folder.path(), "die while saving", 8);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGXFSZ);
  CHECK(checkpoint_steps(folder.path()) == std::vector<std::int64_t>{4});
  train_part(folder.path(), {.resume = true});
  check_same(folder.path());
}

TEST_CASE("killed twice") {
  const test::TemporaryFolder folder;
  train_in_child(folder.path(), "kill at call", 17);
  train_in_child(folder.path(), "kill at call", 20);  // 8 steps on: the child resumed
  CHECK(checkpoint_steps(folder.path()).back() == 8);
  train_part(folder.path(), {.resume = true});
  check_same(folder.path());
}

TEST_CASE("a damaged checkpoint costs the steps since the one before, nothing else") {
  const test::TemporaryFolder folder;
  train_part(folder.path(), {.stop_at_call = 31});
  REQUIRE(checkpoint_steps(folder.path()) == std::vector<std::int64_t>{8, 10});
  const fs::path damaged = folder.path() / "checkpoints" / "step-10" / "optimizer.safetensors";
  std::string bytes = read_file(damaged);
  bytes.back() ^= 1;
  replace_file(damaged, bytes);
  std::vector<std::string> notices;
  Part part{.resume = true};
  part.notice = [&](const std::string& text) { notices.push_back(text); };
  train_part(folder.path(), std::move(part));
  REQUIRE(notices.size() == 1);
  CHECK(test::contains(notices[0], "step 10 cannot be used"));
  CHECK(test::contains(notices[0], "optimizer.safetensors"));
  check_same(folder.path());
}

TEST_CASE("a full disk: training goes on, the old checkpoint survives, the end is an error") {
  const test::TemporaryFolder folder;
  std::vector<std::string> notices;
  std::optional<test::FileSizeLimit> limit;
  Part part;
  part.notice = [&](const std::string& text) { notices.push_back(text); };
  part.on_step = [&](const StepReport& report) {
    if (report.step == 7) limit.emplace(200);
  };
  const std::string text = test::error_text<Error>([&] { train_part(folder.path(), std::move(part)); });
  limit.reset();
  CHECK(test::contains(text, "cannot write"));
  CHECK(checkpoint_steps(folder.path()) == std::vector<std::int64_t>{4});
  REQUIRE(notices.size() == 3);
  CHECK(test::contains(notices[0], "metrics.jsonl cannot be written"));
  CHECK(test::contains(notices[1], "step 8 could not be saved, training goes on"));
  CHECK(test::contains(notices[2], "step 12 could not be saved"));
  train_part(folder.path(), {.resume = true});
  check_same(folder.path());
}

TEST_CASE("a disk that is cleared in time costs nothing") {
  const test::TemporaryFolder folder;
  std::optional<test::FileSizeLimit> limit;
  Part part;
  part.on_step = [&](const StepReport& report) {
    if (report.step == 7) limit.emplace(200);
    if (report.step == 10) limit.reset();
  };
  train_part(folder.path(), std::move(part));
  check_same(folder.path());
  CHECK(checkpoint_steps(folder.path()) == std::vector<std::int64_t>{12, 14});
}

TEST_CASE("resuming with another configuration, other data or another model is refused") {
  const test::TemporaryFolder folder;
  train_part(folder.path(), {.stop_at_call = 10});
  const std::string metrics = read_file(folder.path() / "metrics.jsonl");
  const auto refusal = [&](Part part) {
    part.resume = true;
    return test::error_text<UsageError>([&] { train_part(folder.path(), std::move(part)); });
  };
  CHECK(refusal({.config = {{"hidden", 16}, {"seed", 6}}}) ==
        "resume: the configuration is not that of the run (before → now): hidden: 8 → 16; seed: 5 → 6");
  CHECK(refusal({.decay_steps = 20}) ==
        "resume: the configuration is not that of the run (before → now): schedule.decay_steps: 14 → 20");
  CHECK(test::contains(refusal({.data = test::toy_batches(11, 2, true, "others")}), "others11"));
  CHECK(test::contains(refusal({.data = test::toy_batches(12, 2, true)}), "successors12"));

  struct Other : Module {
    Other() { add_parameter("other.weight", Tensor::ones({2})); }
  } other;
  TrainingJob job{.model = other,
                  .loss = [](const Tensor&, const Tensor&) { return Tensor::scalar(0); },
                  .data = test::toy_batches(11, 2, true),
                  .folder = folder.path(),
                  .config = {{"hidden", 8}, {"seed", 5}}};
  Trainer trainer(std::move(job), options_of_run());
  CHECK(test::contains(test::error_text<UsageError>([&] { trainer.resume(); }), "missing: other.weight"));
  CHECK(read_file(folder.path() / "metrics.jsonl") == metrics);
  CHECK(checkpoint_steps(folder.path()) == std::vector<std::int64_t>{3});
}

TEST_CASE("a state that lacks an entry is refused") {
  const test::TemporaryFolder folder;
  const ToyModel model;
  save_checkpoint(folder.path(), 1, {.model = model.state_dict(), .optimizer = {}, .state = {{"step", 1}}}, 1);
  CHECK(test::contains(test::error_text<UsageError>([&] { train_part(folder.path(), {.resume = true}); }),
                       "state.json: the state lacks an entry"));
}

TEST_CASE("the model folder is written after each checkpoint and at the end") {
  const test::TemporaryFolder folder;
  ToyModel model;
  std::vector<std::int64_t> saved;
  TrainingJob job{
      .model = model, .loss = model.loss_function(), .data = test::toy_batches(7, 7), .folder = folder.path()};
  job.on_save = [&] { saved.push_back(checkpoint_steps(folder.path()).back()); };
  Trainer(std::move(job), options_of_run()).run();
  CHECK(saved == std::vector<std::int64_t>{4, 8, 12, 14});
}
