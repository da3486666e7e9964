// The command line: help, results, and one clear line for bad input.
#include "tests/tools/run_tool.h"

#include <algorithm>
#include <cmath>
#include <set>

using namespace sq;
using namespace sq::test;

namespace {

/// A small run on a small text, used by all tests of this file.
const std::string& trained_model() {
  static const TemporaryFolder folder;
  static const std::string model = [] {
    const std::string text = (folder.path() / "text.txt").string(), out = (folder.path() / "model").string();
    std::string content;
    for (int i = 0; i < 300; ++i) content += "the quick brown fox jumps over the lazy dog. ";
    replace_file(text, content);
    const ToolResult result =
        run_tool(fmt::format("train --preset halo-s-tiny --data {} --out {} --steps 3 --batch-size 2 --context 32 "
                             "--quiet --set tokenizer=char "
                             "--set hidden_size=32 --set num_layers=2 --json",
                             text, out));
    INFO(result.err);
    REQUIRE(result.status == 0);
    return out;
  }();
  return model;
}

}  // namespace

TEST_CASE("help and version") {
  const ToolResult help = run_tool("--help");
  CHECK(help.status == 0);
  for (const std::string command : {"train", "generate", "eval", "convert", "logits", "bench", "summary", "info"})
    CHECK(help.out.find(command) != std::string::npos);
  CHECK(run_tool("train --help").out.find("--resume") != std::string::npos);
  CHECK(run_tool("--version").status == 0);
}

TEST_CASE("wrong usage is refused in one line") {
  check_refused("", "subcommand");
  check_refused("fly", "fly");
  check_refused("train --preset halo-s-tiny", "--out");
  check_refused("info --threads 0", "--threads: 0 is not a number of threads; use 1 to 4096");
  check_refused("info --threads -1", "--threads");
  check_refused("info --threads many", "many");
  check_refused("info --device tpu", "'tpu' is not a device");
  check_refused("info --device cuda:7", "'cuda:7' is not available");
  check_refused("info --dtype f8", "'f8' is unknown");
  check_refused("bench gemm --m 0", "must be at least 1");
  check_refused("bench attention --mixer nothing --n 8", "nothing");
  check_refused("bench attention --mixer gau --n 300", "300 is no multiple of the chunk size 128");
  check_refused("bench attention --mixer linear --n 8 --causal=false", "'linear' is causal by construction");
  check_refused("summary", "--preset");
}

TEST_CASE("generate continues the prompt, the same way for the same seed") {
  const std::string base = "generate --model " + trained_model() + " --prompt 'the quick' --max-new-tokens 12";
  const ToolResult first = run_tool(base + " --seed 7 --quiet"), second = run_tool(base + " --seed 7 --quiet");
  CHECK(first.status == 0);
  CHECK(first.out == second.out);
  CHECK(first.out.starts_with("the quick"));
  CHECK(first.out.size() == std::string("the quick").size() + 12 + 1);
  CHECK(first.err.empty());
  const auto json = run_tool(base + " --json --temperature 0").json();
  CHECK(json["tokens"] == 12);
  CHECK(json["tokens_per_s"] > 0);
  CHECK(json["text"].get<std::string>() == "the quick" + json["continuation"].get<std::string>());
  const ToolResult several = run_tool(base + " --prompt 'a' --json");
  CHECK(std::count(several.out.begin(), several.out.end(), '\n') == 2);
}

TEST_CASE("generation goes on past the context, or stops there on request") {
  const std::string command =
      "generate --model " + trained_model() + " --prompt 'the quick' --max-new-tokens 600 --json";
  const ToolResult slid = run_tool(command);
  CHECK(slid.json()["tokens"] == 600);
  CHECK(slid.err.find("its last half was kept") != std::string::npos);
  CHECK(run_tool(command + " --when-full stop").json()["tokens"] < 600);
}

TEST_CASE("generate refuses what it cannot use") {
  const std::string base = "generate --model " + trained_model();
  check_refused(base + " --prompt ''", "the prompt is empty");
  check_refused(base + " --prompt 'é'", "é");
  check_refused(base + " --prompt the --temperature -1", "temperature -1");
  check_refused(base + " --prompt the --temperature nan", "temperature nan");
  check_refused(base + " --prompt the --top-k -1", "top_k -1");
  check_refused(base + " --prompt the --top-p 0", "top_p 0");
  check_refused(base + " --prompt the --max-new-tokens -3", "max_new_tokens -3");
  check_refused("generate --model /nowhere --prompt a", "/nowhere");
}

TEST_CASE("eval measures loss, perplexity and bits per byte") {
  const TemporaryFolder folder;
  const std::string text = (folder.path() / "t.txt").string();
  replace_file(text, "the quick brown fox jumps over the lazy dog. the lazy dog sleeps.");
  const auto json = run_tool("eval --model " + trained_model() + " --data " + text + " --context 16 --json").json();
  CHECK(json["tokens"] == 64);
  CHECK(json["perplexity"].get<double>() == doctest::Approx(std::exp(json["loss"].get<double>())));
  CHECK(json["bits_per_byte"].get<double>() == doctest::Approx(json["loss"].get<double>() / std::log(2.0)));
  check_refused("eval --model " + trained_model() + " --data " + text + " --context 100", "100");
  check_refused("eval --model " + trained_model() + " --data " + text + " --context 100000", "100000 is not possible");
  check_refused("eval --model " + trained_model() + " --data /nowhere.txt", "/nowhere.txt");
}

TEST_CASE("logits go into a file") {
  const TemporaryFolder folder;
  const std::string out = (folder.path() / "logits.safetensors").string();
  CHECK(run_tool("logits --model " + trained_model() + " --ids 1,2,3 --out " + out).status == 0);
  CHECK(std::filesystem::exists(out));
  check_refused("logits --model " + trained_model() + " --ids 1,2,999 --out " + out, "999 is not an id");
  check_refused("logits --model " + trained_model() + " --ids 1,x --out " + out, "x");
}

TEST_CASE("a damaged model folder is refused with the file's name") {
  const TemporaryFolder folder;
  const auto copy = folder.path() / "model";
  std::filesystem::copy(trained_model(), copy, std::filesystem::copy_options::recursive);
  const std::string weights = read_file(copy / "model.safetensors");
  const std::string command = "generate --prompt the --model " + copy.string();
  replace_file(copy / "model.safetensors", weights.substr(0, weights.size() / 2));
  check_refused(command, "model.safetensors");
  replace_file(copy / "model.safetensors", "not a model");
  check_refused(command, "model.safetensors");
  std::string oversized = weights;
  oversized[6] = '\x7f';  // a header of absurd length
  replace_file(copy / "model.safetensors", oversized);
  check_refused(command, "claims a header");
  replace_file(copy / "model.safetensors", weights);
  replace_file(copy / "tokenizer.json", "{}");
  check_refused(command, "tokenizer.json");
  replace_file(copy / "tokenizer.json", R"({"kind":"byte"})");
  check_refused(command, "256");
  replace_file(copy / "config.json", "{\"hidden_size\": 31}");
  check_refused(command, "config.json");
}

TEST_CASE("summary and info speak JSON") {
  CHECK(run_tool("summary --preset gpt2-124m --json").json()["parameters"] == 124439808);
  CHECK(run_tool("summary --preset halo-s-quickstart").out.find("parameters") != std::string::npos);
  const auto info = run_tool("info --json --threads 1").json();
  CHECK(info["threads"] == 1);
  CHECK(info["mixers"].size() >= 2);
}

TEST_CASE("the memory of a HALO-S training step grows with the length, not with its square") {
  const auto peak = [](int context) {
    const ToolResult result = run_tool(fmt::format(
        "bench train --preset halo-s-tiny --set max_seq_len=8192 --set num_layers=1 --batch-size 1 --context {} "
        "--runs 1 --warmup 0 --threads 1 --json",
        context));
    CAPTURE(result.err);
    REQUIRE(result.status == 0);
    return result.json()["peak_bytes"].get<double>();
  };
  const double small = peak(512), middle = peak(1024), large = peak(2048);
  CHECK((large - middle) / (middle - small) == doctest::Approx(2).epsilon(0.1));  // 4 if anything grew with the square
}

TEST_CASE("benchmarks give the promised keys") {
  for (const std::string command :
       {"bench gemm --m 32 --n 16 --k 8", "bench attention --mixer halo_s --n 64 --heads 2 --dim 8",
        "bench attention --mixer dense --n 64 --heads 2 --dim 8",
        "bench attention --mixer sliding_window --n 64 --heads 2 --dim 8 --set window=5",
        "bench attention --mixer hopfield --n 64 --heads 2 --dim 8 --set iterations=1",
        "bench attention --mixer linear --n 64 --heads 2 --dim 8",
        "bench attention --mixer delta_net --n 64 --heads 2 --dim 8",
        "bench attention --mixer gau --n 64 --heads 2 --dim 8 --set chunk_size=16",
        "bench attention --mixer bsbr --n 64 --heads 2 --dim 8 --set chunk_size=16",
        "bench attention --mixer halo_s --n 64 --heads 2 --dim 8 --whole",
        "bench train --preset nanogpt-cpu --batch-size 1 --context 16",
        "bench decode --preset nanogpt-cpu --prompt 4 --tokens 4", "bench ops softmax adamw"}) {
    CAPTURE(command);
    const ToolResult result = run_tool(command + " --runs 1 --warmup 0 --json");
    CAPTURE(result.err);
    REQUIRE(result.status == 0);
    const auto line = nlohmann::json::parse(result.out.substr(0, result.out.find('\n')));
    for (const char* key : {"work", "ms", "min_ms", "max_ms", "gflops", "gbytes_per_s", "share_of_peak", "threads"})
      CHECK(line.contains(key));
  }
}

TEST_CASE("profile: a table that adds up, and a trace") {
  const TemporaryFolder folder;
  const std::string trace = (folder.path() / "trace.json").string();
  const std::string small =
      " --preset nanogpt-cpu --set hidden_size=32 --set num_layers=1 --batch-size 2 --context 16 ";
  for (const std::string mode : {"", "--decode "}) {
    CAPTURE(mode);
    const ToolResult result = run_tool("profile" + small + mode + "--steps 3 --json --trace " + trace);
    CAPTURE(result.err);
    REQUIRE(result.status == 0);
    const auto json = result.json();
    CHECK(json["steps"] == 3);
    CHECK(json["kernel_share"] > 0);
    CHECK(json["kernel_share"] <= 1);
    double kernels = 0, share = 0, phases = 0;
    for (const auto& kernel : json["kernels"]) {
      kernels += kernel["ms"].get<double>();
      share += kernel["share"].get<double>();
    }
    for (const auto& phase : json["phases"]) phases += phase["ms"].get<double>();
    CHECK(kernels == doctest::Approx(json["kernel_ms"].get<double>()));
    CHECK(phases == doctest::Approx(json["ms"].get<double>()));
    CHECK(share == doctest::Approx(json["kernel_share"].get<double>()));
    const auto events = nlohmann::json::parse(read_file(trace))["traceEvents"];
    CHECK(std::count_if(events.begin(), events.end(), [](const auto& event) { return event["ph"] == "X"; }) > 10);
  }
  const std::string table = run_tool("profile" + small + "--steps 1").out;
  for (const char* text : {"GFLOP/s", "GB/s", "share", "outside kernels", "matmul"})
    CHECK(table.find(text) != std::string::npos);
}

TEST_CASE("profile --floors: a floor for every kernel whose work is counted") {
  const ToolResult result = run_tool(
      "profile --preset nanogpt-cpu --set hidden_size=32 --set num_layers=1 --batch-size 2 --context 16 --steps 1 "
      "--floors --json");
  CAPTURE(result.err);
  REQUIRE(result.status == 0);
  const auto json = result.json();
  const double flops = json["ceilings"]["gflops"].get<double>(), bytes = json["ceilings"]["gbytes_per_s"].get<double>();
  CHECK(flops > 0);
  CHECK(bytes > 0);
  std::set<std::string> names;
  for (const auto& kernel : json["kernels"]) {
    names.insert(kernel["kernel"].get<std::string>());
    CHECK(kernel["gap"].get<double>() ==
          doctest::Approx(kernel["ms"].get<double>() / kernel["floor_ms"].get<double>()));
  }
  for (const char* name : {"matmul", "dense_attention", "dense_attention_backward", "layer_norm", "adamw"})
    CHECK(names.count(name) == 1);
  for (const auto& kernel : json["kernels"])
    if (kernel["kernel"] == "adamw") CHECK(kernel["binds"] == "bytes");
}

TEST_CASE("profile refuses what it cannot do") {
  const std::string base = "profile --preset nanogpt-cpu ";
  check_refused("profile --preset nothing", "nanogpt-cpu");
  check_refused(base + "--steps 0", "--steps");
  check_refused(base + "--context 100", "up to 64");
  check_refused(base + "--context -1", "--context");
  check_refused(base + "--batch-size -1", "--batch-size");
  check_refused(base + "--threads 0", "--threads");
  check_refused(base + "--decode --context 64", "64");
  check_refused(base + "--trace /nowhere/trace.json", "/nowhere");
  check_refused(base + "--floors --trace trace.json", "--floors");
}
