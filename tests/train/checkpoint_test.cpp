#include "train/checkpoint.h"

#include "tensor/file.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/error_text.h"
#include "tests/train/file_size_limit.h"

#include <doctest/doctest.h>

using namespace sq;
namespace fs = std::filesystem;

namespace {

/// Content in which every tensor and the state say which step they belong to.
CheckpointContent content_of(std::int64_t step, std::int64_t numel = 5) {
  return {.model = {{"w", Tensor::full({numel}, static_cast<double>(step))}, {"b", Tensor::full({2}, 0.5)}},
          .optimizer = {{"exp_avg.w", Tensor::full({numel}, static_cast<double>(10 * step))}},
          .state = {{"step", step}, {"ratio", 0.1 + static_cast<double>(step)}}};
}

double saved_value(const fs::path& run) {
  return load_newest_checkpoint(run).content.model[0].second.to_vector<double>()[0];
}

std::vector<std::string> entries(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Changes one byte in the middle of a file.
void damage(const fs::path& path) {
  std::string bytes = read_file(path);
  bytes[bytes.size() / 2] ^= 1;
  replace_file(path, bytes);
}

}  // namespace

TEST_CASE("a checkpoint comes back as it was saved") {
  const test::TemporaryFolder run;
  const CheckpointContent content = content_of(7);
  save_checkpoint(run.path(), 7, content, 3);
  const LoadedCheckpoint loaded = load_newest_checkpoint(run.path());
  CHECK(loaded.step == 7);
  CHECK(loaded.path == run.path() / "checkpoints" / "step-7");
  const auto same = [](const NamedTensors& a, const NamedTensors& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
      CHECK(a[i].first == b[i].first);
      CHECK(bit_equal(a[i].second, b[i].second));
    }
  };
  same(loaded.content.model, content.model);
  same(loaded.content.optimizer, content.optimizer);
  CHECK(loaded.content.state == content.state);
}

TEST_CASE("the newest K checkpoints stay, in the order of their numbers") {
  const test::TemporaryFolder run;
  for (const std::int64_t step : {8, 9, 10, 11}) save_checkpoint(run.path(), step, content_of(step), 2);
  CHECK(entries(run.path() / "checkpoints") == std::vector<std::string>{"step-10", "step-11"});
  CHECK(checkpoint_steps(run.path()) == std::vector<std::int64_t>{10, 11});
  CHECK(saved_value(run.path()) == 11);
}

TEST_CASE("saving a step again replaces it; what crashes left behind goes") {
  const test::TemporaryFolder run;
  save_checkpoint(run.path(), 3, content_of(3), 2);
  fs::create_directories(run.path() / "checkpoints" / ".partial-new-step-4");
  replace_file(run.path() / "checkpoints" / ".partial-new-step-4" / "model.safetensors", "half");
  CHECK(saved_value(run.path()) == 3);  // half a checkpoint is none
  CheckpointContent again = content_of(3);
  again.model[0].second = Tensor::full({5}, 33);
  save_checkpoint(run.path(), 3, again, 2);
  CHECK(saved_value(run.path()) == 33);
  CHECK(entries(run.path() / "checkpoints") == std::vector<std::string>{"step-3"});
}

TEST_CASE("a damaged checkpoint is reported and the one before is taken") {
  const auto check = [](const std::string& file, const std::string& reason, auto&& harm) {
    CAPTURE(file);
    const test::TemporaryFolder run;
    for (const std::int64_t step : {1, 2}) save_checkpoint(run.path(), step, content_of(step), 2);
    harm(run.path() / "checkpoints" / "step-2" / file);
    std::vector<std::string> notices;
    const LoadedCheckpoint loaded =
        load_newest_checkpoint(run.path(), [&](const std::string& text) { notices.push_back(text); });
    CHECK(loaded.step == 1);
    REQUIRE(notices.size() == 1);
    CAPTURE(notices[0]);
    CHECK(test::contains(notices[0], "step-2/" + file));
    CHECK(test::contains(notices[0], reason));

    fs::remove_all(run.path() / "checkpoints" / "step-1");
    const std::string text = test::error_text<UsageError>([&] { load_newest_checkpoint(run.path()); });
    CHECK(test::contains(text, "no checkpoint is undamaged"));
    CHECK(test::contains(text, file));
  };
  const auto cut = [](const fs::path& path) { fs::resize_file(path, fs::file_size(path) - 3); };
  const auto erase = [](const fs::path& path) { fs::remove(path); };
  for (const std::string file : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    check(file, "does not match its checksum", damage);
    check(file, "bytes, the manifest says", cut);
    check(file, "cannot read", erase);
  }
  check("manifest.json", "not valid JSON", cut);
  check("manifest.json", "cannot read", erase);
}

TEST_CASE("after going back from a damaged checkpoint, a newer save removes it") {
  const test::TemporaryFolder run;
  for (const std::int64_t step : {2, 4}) save_checkpoint(run.path(), step, content_of(step), 2);
  damage(run.path() / "checkpoints" / "step-4" / "model.safetensors");
  REQUIRE(load_newest_checkpoint(run.path()).step == 2);
  save_checkpoint(run.path(), 3, content_of(3), 2);
  CHECK(checkpoint_steps(run.path()) == std::vector<std::int64_t>{2, 3});
}

TEST_CASE("a manifest that is no manifest is refused") {
  const test::TemporaryFolder run;
  save_checkpoint(run.path(), 1, content_of(1), 1);
  const fs::path path = run.path() / "checkpoints" / "step-1";
  for (const std::string text : {"[]", "{}", R"({"format":1,"step":1,"files":{}})", R"({"format":"1"})",
                                 R"({"format":1,"step":1,"files":{"model.safetensors":{"bytes":-1}}})"}) {
    CAPTURE(text);
    replace_file(path / "manifest.json", text);
    CHECK(test::contains(test::error_text<UsageError>([&] { load_checkpoint(path); }), "step-1"));
  }
  replace_file(path / "manifest.json", R"({"format":2})");
  CHECK(test::contains(test::error_text<UsageError>([&] { load_checkpoint(path); }), "format 2 is not known"));
}

TEST_CASE("no checkpoint at all is said plainly") {
  const test::TemporaryFolder run;
  CHECK(test::contains(test::error_text<UsageError>([&] { load_newest_checkpoint(run.path()); }),
                       "there is no checkpoint to go on from"));
  CHECK(checkpoint_steps(run.path() / "none").empty());
}

TEST_CASE("names that are not step-N are no checkpoints") {
  const test::TemporaryFolder run;
  for (const char* name : {"step-", "step-x", "step-1x", "step--1", "step-01", "other", ".partial-step-3"})
    fs::create_directories(run.path() / "checkpoints" / name);
  CHECK(checkpoint_steps(run.path()).empty());
}

TEST_CASE("a full disk leaves the old checkpoints and nothing half written") {
  const test::TemporaryFolder run;
  save_checkpoint(run.path(), 1, content_of(1), 1);
  {
    const test::FileSizeLimit limit(10'000);
    const std::string text = test::error_text<Error>([&] { save_checkpoint(run.path(), 2, content_of(2, 5000), 1); });
    CHECK(test::contains(text, "cannot write"));
  }
  CHECK(entries(run.path() / "checkpoints") == std::vector<std::string>{"step-1"});
  CHECK(saved_value(run.path()) == 1);
}

TEST_CASE("another configuration is refused with every difference") {
  const Json saved = {{"model", {{"hidden", 64}, {"layers", 2}}}, {"train", {{"seed", 1}, {"eval_every", 5}}}};
  Json given = saved;
  CHECK_NOTHROW(require_same_config(saved, given));
  given["train"]["eval_every"] = 7;
  const std::vector<std::string_view> free{"train.eval_every"};
  CHECK_NOTHROW(require_same_config(saved, given, free));
  given["model"]["hidden"] = 128;
  given["train"]["seed"] = 2;
  CHECK(test::error_text<UsageError>([&] { require_same_config(saved, given, free); }) ==
        "resume: the configuration is not that of the run (before → now): model.hidden: 64 → 128; "
        "train.seed: 1 → 2");
  const std::vector<std::string_view> prefix_of_key{"train.see"};
  CHECK_THROWS_AS(require_same_config(saved, given, prefix_of_key), UsageError);
}

TEST_CASE("the run folder: fresh, resumed, forced") {
  const test::TemporaryFolder folder;
  const fs::path run = folder.path() / "a" / "run";
  const auto refusal = [&](RunStart start) {
    return test::error_text<UsageError>([&] { open_run_folder(run, start); });
  };
  CHECK(test::contains(refusal(RunStart::resume), "holds no checkpoint to resume from; training without --resume"));
  CHECK_FALSE(fs::exists(run));
  open_run_folder(run, RunStart::fresh);
  open_run_folder(run, RunStart::fresh);  // an empty folder holds no run
  replace_file(run / "metrics.jsonl", "{\"step\":1}\n");
  CHECK(test::contains(refusal(RunStart::fresh), "already holds a run; --force"));
  CHECK(test::contains(refusal(RunStart::resume), "--force starts anew"));
  save_checkpoint(run, 1, content_of(1), 1);
  CHECK(test::contains(refusal(RunStart::fresh), "already holds a run; --resume goes on with it, --force"));
  open_run_folder(run, RunStart::resume);
  CHECK(checkpoint_steps(run).size() == 1);
  replace_file(run / "notes.txt", "mine");
  open_run_folder(run, RunStart::force);
  CHECK(entries(run) == std::vector<std::string>{"notes.txt"});
  replace_file(folder.path() / "file", "x");
  CHECK(test::contains(test::error_text<UsageError>([&] { open_run_folder(folder.path() / "file", RunStart::force); }),
                       "is not a folder"));
}
