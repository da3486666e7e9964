// subquad convert: GPT-2 folders in, model folders out.
#include "ops/view.h"
#include "tests/source_root.h"
#include "tests/support/compare.h"
#include "tests/support/tiny_bpe.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/tools/run_tool.h"

#include <fmt/ranges.h>

using namespace sq;
using namespace sq::test;

namespace {

constexpr const char* kConvert = "convert --from gpt2 --to dense ";

nlohmann::ordered_json changed(const char* key, const nlohmann::ordered_json& value) {
  nlohmann::ordered_json config = tiny_gpt2_config();
  config[key] = value;
  return config;
}

/// A tiny GPT-2 in a folder of its own.
struct Source {
  TemporaryFolder folder;
  std::string path = (folder.path() / "gpt2").string();
  std::string out = (folder.path() / "out").string();

  Source() : Source(tiny_gpt2_config()) {}
  explicit Source(const nlohmann::ordered_json& config) { write_gpt2(path, config, tiny_gpt2_tensors("transformer.")); }
  std::string both() const { return path + " " + out; }
};

}  // namespace

TEST_CASE("a GPT-2 folder becomes a model folder that other commands take") {
  const Source source;
  const ToolResult result = run_tool(kConvert + source.both() + " --json");
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK(result.json()["parameters"] == 11 * 8 + 16 * 8 + 2 * (4 * 8 + 8 * 24 + 24 + 64 + 8 + 2 * 256 + 32 + 8) + 16);
  CHECK(result.json()["new_parameters"] == 0);
  CHECK(result.json()["layers"] == 2);
  CHECK(result.err.find("the model is the same") != std::string::npos);
  CHECK(result.err.find("converted without a tokenizer") != std::string::npos);
  CHECK(result.json()["tokenizer"] == "");
  const std::string logits = (source.folder.path() / "logits.safetensors").string();
  CHECK(run_tool("logits --model " + source.out + " --ids 1,2,3 --out " + logits).status == 0);
  CHECK(SafetensorsFile(logits).at("logits").shape() == Shape{1, 3, 11});
  CHECK(run_tool("summary --model " + source.out + " --json").json()["parameters"] == result.json()["parameters"]);
}

TEST_CASE("the tokenizer comes along, and the converted model continues text") {
  Source source;
  nlohmann::ordered_json config = tiny_gpt2_config(), vocabulary;
  config["vocab_size"] = 270;  // more than the tokenizer has
  NamedTensors tensors = tiny_gpt2_tensors();
  tensors.front().second = randn({270, 8});
  write_gpt2(source.path, config, tensors);
  const BpeVocabulary tiny = tiny_bpe();
  for (std::size_t id = 0; id < tiny.tokens.size(); ++id) vocabulary[tiny.tokens[id]] = id;
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : tiny.merges) merges += left + " " + right + "\n";
  replace_file(source.path + "/vocab.json", vocabulary.dump());
  replace_file(source.path + "/merges.txt", merges);
  const ToolResult result = run_tool(kConvert + source.both() + " --json");
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK(result.json()["tokenizer"] == "bpe");
  const ToolResult text =
      run_tool("generate --model " + source.out + " --prompt ' the thing' --max-new-tokens 4 --json");
  INFO(text.err);
  REQUIRE(text.status == 0);
  CHECK(text.json()["text"].get<std::string>().starts_with(" the thing"));
  std::filesystem::remove_all(source.out);
  std::filesystem::remove(source.path + "/merges.txt");
  check_refused(kConvert + source.both(), "merges.txt");
  CHECK_FALSE(std::filesystem::exists(source.out));
}

TEST_CASE("converted by the tool, GPT-2 has its own logits, and with block-sparse attention those worked out for it") {
  const SafetensorsFile golden(std::string(kSourceRoot) + "/tests/golden/bsbr/gpt2_conversion.safetensors");
  Source source;
  nlohmann::ordered_json config = tiny_gpt2_config();
  NamedTensors tensors;
  for (const auto& [name, tensor] : golden.tensors())
    if (name.starts_with("gpt2.") && name != "gpt2.hidden" && name != "gpt2.logits")
      tensors.emplace_back("transformer." + name.substr(5), tensor);
  config["vocab_size"] = golden.at("gpt2.wte.weight").size(0);
  config["n_embd"] = golden.at("gpt2.wte.weight").size(1);
  config["n_positions"] = golden.at("gpt2.wpe.weight").size(0);
  config["n_layer"] = std::stoi(golden.metadata().at("L"));
  config["n_head"] = std::stoi(golden.metadata().at("H"));
  write_gpt2(source.path, config, tensors);
  const std::vector<std::int64_t> ids = golden.at("input_ids").to_vector<std::int64_t>();
  const std::int64_t tokens = golden.at("input_ids").size(1);
  const auto logits = [&](const std::string& flags) {
    std::filesystem::remove_all(source.out);
    const ToolResult result = run_tool("convert --from gpt2 " + flags + " " + source.both());
    INFO(result.err);
    REQUIRE(result.status == 0);
    const std::string file = (source.folder.path() / "logits.safetensors").string();
    REQUIRE(run_tool(fmt::format("logits --model {} --ids {} --out {}", source.out,
                                 fmt::join(ids.begin(), ids.begin() + tokens, ","), file))
                .status == 0);
    return packed_copy(SafetensorsFile(file).at("logits"));
  };
  const auto want = [&](const char* name) { return slice(golden.at(name), 0, 0, 1); };
  CHECK(relative_error(logits("--to dense"), want("gpt2.logits")) < 2e-5);
  CHECK(relative_error(logits(fmt::format("--to bsbr --chunk-size {} --retrieval-gate 1", tokens)),
                       want("gpt2.logits")) < 2e-5);
  CHECK(relative_error(
            logits("--to bsbr --state-norm none --retrieval-gate 1 --chunk-size " + golden.metadata().at("chunk")),
            want("corrected.logits")) < 2e-5);
}

TEST_CASE("a model with block-sparse attention says what is new in it") {
  const Source source;
  const ToolResult result = run_tool("convert --from gpt2 --to bsbr --chunk-size 4 --json " + source.both());
  INFO(result.err);
  REQUIRE(result.status == 0);
  CHECK(result.json()["new_parameters"] == 2 * (2 * (64 + 8) + 2));
  CHECK(result.json()["new_names"].size() == 5);
  CHECK(result.err.find("attn.meta_r_proj.weight") != std::string::npos);
  const auto mixer = nlohmann::json::parse(read_file(source.out + "/config.json"))["mixer"];
  CHECK(mixer["chunk_size"] == 4);
  CHECK(mixer["gate"] == "zero");
}

TEST_CASE("convert refuses what it cannot convert, in one line") {
  const Source source;
  check_refused("convert --from llama --to dense " + source.both(), "--from: 'llama' is unknown; use gpt2");
  check_refused("convert --from gpt2 --to linear " + source.both(), "--to: 'linear' is unknown; use dense or bsbr");
  check_refused("convert --from gpt2 " + source.both(), "--to");
  check_refused(kConvert + source.path, "out");
  check_refused(kConvert + source.both() + " --chunk-size 8", "--chunk-size: this is an option of bsbr");
  check_refused("convert --from gpt2 --to bsbr --chunk-size 0 " + source.both(), "mixer.chunk_size is 0 but must be");
  check_refused("convert --from gpt2 --to bsbr --state-norm sum " + source.both(), "mixer.state_norm is \"sum\"");
  check_refused("convert --from gpt2 --to bsbr --retrieval-gate nan " + source.both(), "nan is no finite number");
  check_refused(kConvert + source.both() + " --dtype bf16", "--dtype");
  check_refused(kConvert + std::string("/nowhere ") + source.out, "/nowhere: this is no folder");
  check_refused(kConvert + source.path + " " + source.path, "there is a config.json already; give a new folder");
  CHECK_FALSE(std::filesystem::exists(source.out));
  const Source llama(changed("model_type", "llama"));
  check_refused(kConvert + llama.both(), "model_type is \"llama\", but only \"gpt2\" can be converted");
  CHECK_FALSE(std::filesystem::exists(llama.out));
  const Source deeper(changed("n_layer", 3));
  check_refused(kConvert + deeper.both(), "missing: h.2.ln_1.weight");
  CHECK_FALSE(std::filesystem::exists(deeper.out));
}
