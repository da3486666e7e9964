// subquad train: runs, resuming to the bit, and input that is refused without leaving a trace.
#include "tests/tools/run_tool.h"

#include <algorithm>
#include <chrono>
#include <signal.h>
#include <sstream>
#include <thread>
#include <unistd.h>

using namespace sq;
using namespace sq::test;

namespace {

const std::string kSmall =
    "train --preset halo-s-tiny --set hidden_size=16 --set num_layers=1 --set mixer.num_heads=2 --context 16 "
    "--batch-size 2 --quiet ";

std::string write_text(const TemporaryFolder& folder) {
  std::string content;
  for (int i = 0; i < 400; ++i) content += "line " + std::to_string(i * i) + " of a text that trains\n";
  const auto path = folder.path() / "text.txt";
  replace_file(path, content);
  return path.string();
}

/// Starts the tool, waits until its run has made `lines` lines of metrics, and sends it a signal. Its exit status.
int interrupt(const std::string& arguments, const std::filesystem::path& metrics, int lines, int signal) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", fmt::format("exec '{}' {} >/dev/null 2>&1", SUBQUAD_TOOL, arguments).c_str(),
            nullptr);
    ::_exit(127);
  }
  for (int wait = 0; wait < 3000; ++wait) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!std::filesystem::exists(metrics)) continue;
    const std::string text = read_file(metrics);
    if (std::count(text.begin(), text.end(), '\n') >= lines) break;
  }
  ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

TEST_CASE("a run that is killed or stopped and resumed ends with the same bytes") {
  const TemporaryFolder folder;
  const std::string text = write_text(folder);
  for (const std::string extra : {"", "--set accumulation=3 --set dropout=0.1 --set data.stride=7 "}) {
    CAPTURE(extra);
    const auto out = [&](const std::string& name) { return folder.path() / (name + std::to_string(extra.size())); };
    const auto command = [&](const std::string& name) {
      return kSmall + extra +
             fmt::format("--data {} --out {} --steps 400 --save-every 50 --eval-every 0", text, out(name).string());
    };
    REQUIRE(run_tool(command("whole")).status == 0);
    const std::string whole = read_file(out("whole") / "model.safetensors");
    CHECK(interrupt(command("killed"), out("killed") / "metrics.jsonl", 120, SIGKILL) == 128 + SIGKILL);
    REQUIRE(run_tool(command("killed") + " --resume").status == 0);
    CHECK(read_file(out("killed") / "model.safetensors") == whole);
    CHECK(interrupt(command("stopped"), out("stopped") / "metrics.jsonl", 120, SIGINT) == 0);
    REQUIRE(run_tool(fmt::format("train --out {} --resume --quiet", out("stopped").string())).status ==
            0);  // all else is remembered
    CHECK(read_file(out("stopped") / "model.safetensors") == whole);
    const std::string metrics = read_file(out("killed") / "metrics.jsonl");
    CHECK(std::count(metrics.begin(), metrics.end(), '\n') == 400);
  }
}

TEST_CASE("one thread and two write the same model") {
  const TemporaryFolder folder;
  const std::string text = write_text(folder);
  std::vector<std::string> models;
  for (const int threads : {1, 2}) {
    const auto out = folder.path() / std::to_string(threads);
    REQUIRE(run_tool(kSmall + fmt::format("--data {} --out {} --steps 20 --threads {}", text, out.string(), threads))
                .status == 0);
    models.push_back(read_file(out / "model.safetensors"));
  }
  CHECK(models[0] == models[1]);
}

TEST_CASE("every kind of data trains") {
  const TemporaryFolder folder;
  const std::string text = write_text(folder);
  std::string lines;
  for (int i = 0; i < 60; ++i)
    lines += fmt::format("{{\"text\": \"document number {} with enough letters in it\"}}\n", i);
  const auto jsonl = folder.path() / "data.jsonl";
  replace_file(jsonl, lines);
  int number = 0;
  for (const std::string& data : std::vector<std::string>{
           "", "--data " + text, "--data " + jsonl.string(), "--data " + jsonl.string() + " --set data.kind=jsonl_lazy",
           "--data " + jsonl.string() + " --set data.kind=stream", "--data " + text + " --set tokenizer=word",
           "--task copy", "--task needle --task-set distance=5"}) {
    CAPTURE(data);
    const auto out = folder.path() / std::to_string(number++);
    const ToolResult result = run_tool(kSmall + data + " --steps 2 --out " + out.string() + " --json");
    CAPTURE(result.err);
    REQUIRE(result.status == 0);
    CHECK(result.json()["step"] == 2);
    CHECK(std::filesystem::exists(out / "model.safetensors"));
  }
}

TEST_CASE("a task trains on samples of its own, counts right answers, and goes on to the same bytes") {
  const TemporaryFolder folder;
  const auto start = [&](const std::string& name) {
    return kSmall +
           "--task mqar --task-set pairs=2 --task-set vocab_size=16 --task-set length=8 --eval-every 2 --json --out " +
           (folder.path() / name).string();
  };
  const std::string command = start("whole");
  // kSmall says --context, which is the length already.
  check_refused(command, "length is what --context says; give one of them");
  const auto without = [](std::string text, const std::string& part) {
    return text.erase(text.find(part), part.size());
  };
  const auto run = [&](const std::string& name, const std::string& more) {
    return run_tool(without(start(name), "--context 16 ") + more);
  };
  const ToolResult whole = run("whole", " --steps 6");
  CAPTURE(whole.err);
  REQUIRE(whole.status == 0);
  CHECK(whole.json()["val_accuracy"].get<double>() >= 0);
  CHECK(whole.json()["val_accuracy"].get<double>() <= 1);
  std::istringstream lines(read_file(folder.path() / "whole" / "metrics.jsonl"));
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    const auto metrics = nlohmann::json::parse(line);
    CHECK(metrics["tokens"] == ++number * 2 * 8);
    CHECK(metrics.contains("val_accuracy") == (number % 2 == 0));
    CHECK(metrics.contains("val_loss") == (number % 2 == 0));
  }
  CHECK(number == 6);
  REQUIRE(run("parts", " --steps 3 --set decay_steps=6").status == 0);
  REQUIRE(run_tool("train --quiet --resume --steps 6 --out " + (folder.path() / "parts").string()).status == 0);
  CHECK(read_file(folder.path() / "parts" / "model.safetensors") ==
        read_file(folder.path() / "whole" / "model.safetensors"));
  check_refused("generate --prompt x --model " + (folder.path() / "whole").string(), "the model reads ids and no text");
}

TEST_CASE("tasks that are not possible are refused by name and rule") {
  const TemporaryFolder folder;
  const std::string out = " --out " + (folder.path() / "out").string();
  check_refused(kSmall + "--task mqr" + out, "must be one of copy, needle, mqar, selective_copy, induction");
  check_refused(kSmall + "--task mqar --task-set pairs=5" + out, "so 4·pairs <= length");
  check_refused(kSmall + "--task induction --task-set pairs=5" + out, "unknown key 'training.data.task.pairs'");
  check_refused(kSmall + "--task-set pairs=5" + out, "--task-set: it needs --task NAME beside it");
  check_refused(kSmall + "--task mqar --data x.txt" + out, "a task makes its own data; leave out --data");
  check_refused(kSmall + "--task copy --set data.kind=jsonl" + out, "the task copy makes its own data");
  CHECK(!std::filesystem::exists(folder.path() / "out"));
}

TEST_CASE("a run can go on for more steps: at its last rate, or with the end of its schedule moved") {
  const TemporaryFolder folder;
  const std::string text = write_text(folder), out = (folder.path() / "out").string();
  const std::string start = kSmall + "--data " + text + " --set warmup_steps=2 --out " + out;
  const auto rates = [&] {
    std::vector<double> result;
    std::istringstream lines(read_file(folder.path() / "out" / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) result.push_back(nlohmann::json::parse(line)["lr"]);
    return result;
  };
  REQUIRE(run_tool(start + " --steps 6").status == 0);
  const ToolResult more = run_tool(start + " --steps 9 --resume");
  CAPTURE(more.err);
  REQUIRE(more.status == 0);
  REQUIRE(rates().size() == 9);
  for (std::size_t step = 6; step < 9; ++step) CHECK(rates()[step] == 2e-4);  // the preset's min_learning_rate
  REQUIRE(run_tool("train --quiet --resume --out " + out + " --steps 10").status == 0);  // the preset need not be given
  CHECK(rates().back() == 2e-4);
  REQUIRE(run_tool(start + " --resume --steps 12 --set decay_steps=12").status == 0);
  CHECK(rates()[10] > rates()[11]);
  CHECK(rates()[11] > 2e-4);
}

TEST_CASE("more steps at a rate of 0 are refused with the flag to give") {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "out").string();
  const std::string start = kSmall + "--data " + write_text(folder) + " --set min_learning_rate=0 --out " + out;
  REQUIRE(run_tool(start + " --steps 4").status == 0);
  check_refused(start + " --steps 8 --resume", "--set decay_steps=8");
  CHECK(run_tool(start + " --steps 8 --resume --set decay_steps=8").status == 0);
}

TEST_CASE("bad data and settings are refused and nothing is written") {
  const TemporaryFolder folder;
  const std::string text = write_text(folder), out = (folder.path() / "out").string();
  const auto file = [&](const std::string& name, const std::string& content) {
    replace_file(folder.path() / name, content);
    return (folder.path() / name).string();
  };
  const auto refused = [&](const std::string& arguments, const std::string& reason) {
    check_refused("train " + arguments + " --out " + out, reason);
    CHECK_FALSE(std::filesystem::exists(out));
  };
  const std::string preset = "--preset halo-s-tiny ", data = preset + "--data ";
  refused(data + "/nowhere.txt", "/nowhere.txt");
  refused(data + folder.path().string(), "folder");
  refused(data + file("empty.txt", ""), "empty");
  refused(data + file("binary.bin", std::string("ab\0cd", 5)), "binary");
  refused(data + file("latin1.txt", "caf\xe9 au lait"), "UTF-8");
  refused(data + file("short.txt", "too short"), "257");
  refused(data + file("bad.jsonl", "not json\n"), "bad.jsonl");
  refused("--preset nothing", "halo-s-tiny");
  refused("--config " + file("broken.json", "{"), "broken.json");
  refused("--config /nowhere.json", "/nowhere.json");
  refused("", "--preset");
  refused(preset + "--set hidden_size=130", "130");
  refused(preset + "--set mixer.local_window=0", "local_window");
  refused(preset + "--set mixer.windows=8", "windows");
  refused(preset + "--set num_layers=two", "num_layers");
  refused(preset + "--context 5000", "5000");
  refused(preset + "--lr nan", "learning_rate");
  refused(preset + "--lr -1", "learning_rate");
  refused(preset + "--steps -5", "steps");
  refused(preset + "--batch-size 0", "batch_size");
  refused(preset + "--threads 0", "--threads");
  refused(preset + "--device cuda:7", "cuda:7");
  refused(preset + "--resume", "holds no");
  refused(preset + "--resume --force", "--force");
  refused(preset + "--dtype f64", "f64");
}

TEST_CASE("a folder that holds a run is not overwritten, and another configuration does not continue it") {
  const TemporaryFolder folder;
  const std::string text = write_text(folder), out = (folder.path() / "out").string();
  const std::string command = kSmall + "--data " + text + " --out " + out + " --steps 4";
  REQUIRE(run_tool(command).status == 0);
  const std::string model = read_file(folder.path() / "out" / "model.safetensors");
  check_refused(command, "--resume");
  check_refused(command + " --resume --lr 0.5", "learning_rate");
  CHECK(read_file(folder.path() / "out" / "model.safetensors") == model);
  CHECK(run_tool(command + " --force --seed 3").status == 0);
  CHECK(read_file(folder.path() / "out" / "model.safetensors") != model);
}
