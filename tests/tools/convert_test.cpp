// subquad convert: GPT-2 folders in, model folders out.
#include "tests/support/compare.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/tools/run_tool.h"

#include <cmath>

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
  const std::string logits = (source.folder.path() / "logits.safetensors").string();
  CHECK(run_tool("logits --model " + source.out + " --ids 1,2,3 --out " + logits).status == 0);
  CHECK(SafetensorsFile(logits).at("logits").shape() == Shape{1, 3, 11});
  CHECK(run_tool("summary --model " + source.out + " --json").json()["parameters"] == result.json()["parameters"]);
}

TEST_CASE("convert refuses what it cannot convert, in one line") {
  const Source source;
  check_refused("convert --from llama --to dense " + source.both(), "--from: 'llama' is unknown; use gpt2");
  check_refused("convert --from gpt2 --to linear " + source.both(), "--to: 'linear' is unknown; use dense or bsbr");
  check_refused("convert --from gpt2 " + source.both(), "--to");
  check_refused(kConvert + source.path, "out");
  check_refused(kConvert + source.both() + " --chunk-size 8", "--chunk-size: this is an option of bsbr");
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
