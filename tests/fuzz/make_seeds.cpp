// fuzz_seeds FOLDER: writes real files for the fuzzers to start from, FOLDER/TARGET/… for each target.
#include "models/checkpoints/halo_s.h"
#include "models/language_model.h"
#include "models/presets.h"
#include "tensor/file.h"
#include "tensor/random.h"
#include "tests/support/tiny_bpe.h"
#include "train/tokenizers/tokenizer.h"
#include "train/training_config.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>

namespace {

using namespace sq;
namespace fs = std::filesystem;

const std::vector<std::string> kTexts = {"To be, or not to be, that is the question.",
                                         "Grüße — 你好 \"quoted\" \\ \t😀\n", ""};

fs::path target(const fs::path& folder, const std::string& name) {
  fs::create_directories(folder / name);
  return folder / name;
}

void write_safetensors(const fs::path& folder) {
  NamedTensors all;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    all.emplace_back(name(dtype), randn({2, 3}, {.dtype = dtype}));
  for (const DType dtype : {DType::i32, DType::i64, DType::u8})
    all.emplace_back(name(dtype), Tensor::arange(5, {.dtype = dtype}));
  all.emplace_back("empty", Tensor::zeros({0, 4}));
  all.emplace_back("scalar", Tensor::scalar(3));
  save_safetensors(folder / "dtypes", all, {{"note", kTexts[1]}});
  save_safetensors(folder / "nothing", {});
  ModelConfig config = config_from_json<ModelConfig>(Json::parse(
      R"({"vocab_size":5,"hidden_size":4,"num_layers":1,"max_seq_len":16,"mixer":{"type":"dense","num_heads":1,"num_kv_heads":1}})"));
  save_safetensors(folder / "model", LanguageModel(config).state_dict());
}

void write_configs(const fs::path& folder) {
  for (const Preset& preset : presets()) {
    replace_file(folder / (std::string(preset.name) + ".run"), preset.text);
    replace_file(folder / (std::string(preset.name) + ".model"),
                 model_document(preset_config(preset.name).model).dump());
  }
  Json original = config_to_json(OriginalHaloS{});
  original["model_type"] = kOriginalHaloSType;
  replace_file(folder / "original", original.dump());
  replace_file(folder / "override", Json("mixer.local_window=32").dump());
  replace_file(folder / "small",
               Json::parse(R"({"vocab_size":5,"hidden_size":8,"num_layers":2,"max_seq_len":16,"mixer":[{"type":
    "dense","num_heads":2,"num_kv_heads":1},{"type":"halo_s","num_heads":2,"num_kv_heads":1,"num_globals":1,"local_window":2}]})")
                   .dump());
}

void write_tokenizers(const fs::path& folder) {
  for (const char* kind : {"byte", "char", "word"})
    replace_file(folder / kind, make_tokenizer(kind, kTexts)->to_json().dump());
  replace_file(folder / "bpe", BpeTokenizer(test::tiny_bpe()).to_json().dump());
}

void write_jsonl(const fs::path& folder) {
  std::string lines;
  for (const std::string& text : kTexts)
    lines += Json{{"text", text}, {"n", 1.5}, {"more", {1, nullptr, true}}}.dump() + "\n";
  replace_file(folder / "lines", lines);
  replace_file(folder / "crlf", "\xEF\xBB\xBF{\"text\":\"a\\u00e9\\ud83d\\ude00\"}\r\n\r\nno json\r");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: fuzz_seeds FOLDER\n", stderr);
    return 2;
  }
  const fs::path folder = argv[1];
  write_safetensors(target(folder, "safetensors"));
  write_configs(target(folder, "config"));
  write_tokenizers(target(folder, "tokenizer"));
  write_jsonl(target(folder, "jsonl"));
}
