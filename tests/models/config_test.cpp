#include "models/config.h"

#include "models/checkpoints/halo_s.h"
#include "models/estimate.h"
#include "models/presets.h"
#include "nn/mixers/dense_config.h"
#include "nn/mixers/halo_s_config.h"
#include "nn/mixers/registry.h"
#include "tests/support/temporary_folder.h"

#include <doctest/doctest.h>

#include <fstream>

using namespace sq;

namespace {

ModelConfig read(const std::string& text) { return config_from_json<ModelConfig>(parse_json(text, "test")); }

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::string model_error(const std::string& text) {
  return error_of([&] { read(text); });
}

std::string original_error(const std::string& text) {
  return error_of([&] { read_original_halo_s(parse_json(text, "test")); });
}

}  // namespace

TEST_CASE("a model configuration is completed from its defaults and survives JSON") {
  const ModelConfig config = read("{}");
  CHECK(config.mixer.entries.size() == 1);
  CHECK(config.mixer_of(5).type == "halo_s");
  const Json json = config_to_json(config);
  CHECK(json["mixer"].dump() ==
        R"({"type":"halo_s","num_heads":8,"num_kv_heads":2,"num_globals":2,"local_window":64,)"
        R"("dilated_offsets":[1,2,4,8],"num_random":2,"graph":"causal","duplicates":"counted","globals":"static",)"
        R"("rotate_globals":false})");
  CHECK(json["residual"]["type"] == "pre_norm");
  CHECK(json["init"] == "scaled");
  CHECK(config_to_json(config_from_json<ModelConfig>(json)) == json);
  CHECK(config_to_json(read_model_document(model_document(config))) == json);
  CHECK(model_document(config)["model_type"] == "subquad");
}

TEST_CASE("layers may differ") {
  const ModelConfig config = read(R"({"num_layers":2,"mixer":["halo_s",{"type":"dense","num_kv_heads":4}]})");
  CHECK(config.mixer_of(0).type == "halo_s");
  CHECK(config.mixer_of(1).options["num_kv_heads"] == 4);
  CHECK(config.global_rows() == GlobalRows{.count = 2, .chunk = 0});
  CHECK(config.context(1).globals.count == 2);
  CHECK(config.max_tokens() == 4094);
  CHECK(config_to_json(config_from_json<ModelConfig>(config_to_json(config))) == config_to_json(config));
  CHECK_THROWS_AS(config.mixer_of(2), Error);
}

TEST_CASE("every key is checked, with its place in the document") {
  CHECK(model_error(R"({"hidden":8})").find("config: unknown key 'hidden' (known here: vocab_size,") == 0);
  CHECK(model_error(R"({"num_layer":8})").find("did you mean 'num_layers'?") != std::string::npos);
  CHECK(model_error(R"({"num_layers":0})") == "config: num_layers is 0 but must be an integer from 1 to 4096");
  CHECK(model_error(R"({"dropout":1})") == "config: dropout is 1 but must be a finite number >= 0 and < 1");
  CHECK(model_error(R"({"norm":{"type":"rms"}})") ==
        "config: norm.type is \"rms\" but must be one of layer_norm, rms_norm");
  CHECK(model_error(R"({"feed_forward":{"gate_init":1}})") ==
        "config: feed_forward.gate_init is 1 but must be one of uniform, ones");
  CHECK(model_error(R"({"residual":"post_norm"})").find("config: residual.type is 'post_norm' but must be one of") ==
        0);
  const std::string unknown_mixer = model_error(R"({"mixer":"halos"})");
  CHECK(unknown_mixer.find("config: mixer.type is 'halos' but must be one of ") == 0);
  for (const MixerEntry* entry : mixer_registry()) CHECK(unknown_mixer.find(entry->name) != std::string::npos);
  CHECK(unknown_mixer.ends_with("; did you mean 'halo_s'?"));
  CHECK(model_error(R"({"mixer":{"num_heads":4}})") == "config: mixer needs a text 'type'");
  CHECK(model_error(R"({"mixer":3})") ==
        "config: mixer must be an object with a type, a type alone, or a list of them");
  CHECK(model_error(R"({"mixer":{"type":"halo_s","local_window":0}})") ==
        "config: mixer.local_window is 0 but must be an integer from 1 to 65536");
  CHECK(model_error(R"({"mixer":{"type":"dense","local_window":3}})")
            .find("config: unknown key 'mixer.local_window' (known here: num_heads") == 0);
  CHECK(model_error(R"({"num_layers":2,"mixer":["dense",{"type":"halo_s","num_random":-1}]})") ==
        "config: mixer.1.num_random is -1 but must be an integer from 0 to 4096");
}

TEST_CASE("rules between fields") {
  CHECK(model_error(R"({"hidden_size":60})") ==
        "config: hidden_size is 60 but must be a multiple of mixer.num_heads, which is 8");
  CHECK(model_error(R"({"mixer":{"type":"halo_s","num_heads":3}})") ==
        "config: mixer.num_heads is 3 but must be a multiple of num_kv_heads, which is 2");
  CHECK(model_error(R"({"hidden_size":24,"mixer":"dense"})") ==
        "config: mixer: 3 features a head, but rotary positions need an even number; change hidden_size, num_heads or "
        "positions");
  CHECK(model_error(R"({"hidden_size":24,"mixer":"dense","positions":"none"})") == "");
  CHECK(model_error(R"({"hidden_size":20,"mixer":{"type":"dense","head_dim":4}})") == "");
  CHECK(
      model_error(R"({"max_seq_len":2})") ==
      "config: max_seq_len is 2 but must be greater than mixer.num_globals, which is 2: it counts globals and tokens");
  CHECK(model_error(R"({"mixer":["dense","dense"]})") ==
        "config: mixer is a list of 2 but num_layers is 6: one entry per layer, or one object for all");
  CHECK(model_error(R"({"mixer":[]})") == "config: mixer is an empty list but must have one entry per layer");
  CHECK(model_error(R"({"num_layers":2,"mixer":["halo_s",{"type":"halo_s","num_globals":0}]})") ==
        "config: mixer.1 asks for other global rows than an entry before it; they must be the same");
  CHECK(model_error(R"({"num_layers":2,"mixer":["halo_s",{"type":"halo_s","globals":"summary"}]})") ==
        "config: mixer.1 asks for other global rows than an entry before it; they must be the same");
}

TEST_CASE("a residual is a name, or a name with options") {
  CHECK(read("{}").residual.to_json().dump() == R"({"type":"pre_norm"})");
  CHECK(read(R"({"residual":"weighted"})").residual.to_json().dump() == R"({"type":"weighted","keep":0.9,"add":0.1})");
  CHECK(config_to_json(read(R"({"residual":{"type":"weighted","add":1}})"))["residual"]["add"] == 1.0);
  CHECK(model_error(R"({"residual":{"add":1}})") == "config: residual needs a text 'type'");
  CHECK(model_error(R"({"residual":{"type":"pre_norm","add":1}})") ==
        "config: unknown key 'residual.add' (this has no options)");
  CHECK(model_error(R"({"residual":[]})") == "config: residual must be an object with a type, or a type alone");
  CHECK(model_config_help().find("residual.keep") != std::string::npos);
  Json settings = parse_json(R"({"residual":"weighted"})", "test");
  apply_override(settings, "residual.keep=0.5");
  CHECK(config_from_json<ModelConfig>(settings).residual.options["keep"] == 0.5);
}

TEST_CASE("options of HALO-S that exclude each other") {
  const auto error = [](const std::string& options) {
    return model_error(R"({"mixer":{"type":"halo_s",)" + options + "}}");
  };
  CHECK(error(R"("num_globals":0)") == "");
  CHECK(error(R"("num_globals":0,"graph":"faithful")") ==
        "config: mixer.num_globals is 0 but must be an integer >= 1 in the faithful graph");
  CHECK(error(R"("duplicates":"once")") ==
        "config: mixer.duplicates is \"once\" but the causal graph has no duplicates; leave it out or set graph to "
        "faithful");
  CHECK(error(R"("duplicates":"once","graph":"faithful")") == "");
  CHECK(error(R"("globals":"summary","graph":"faithful")") ==
        "config: mixer.globals is \"summary\" but must be static in the faithful graph");
  CHECK(error(R"("globals":"summary","num_globals":0)") ==
        "config: mixer.num_globals is 0 but must be an integer >= 1 when globals is summary");
  CHECK(error(R"("dilated_offsets":[1,1])") ==
        "config: mixer.dilated_offsets is [1,1] but must be a list of at most 1024 distinct integers from 1 to "
        "1073741824");
  CHECK(error(R"("dilated_offsets":[])") == "");
  CHECK(model_error(R"({"max_seq_len":67108864,"mixer":{"type":"halo_s","globals":"summary","local_window":1}})") ==
        "config: max_seq_len is 67108864, with the summaries of mixer 201326586 rows, but at most 134217728 are "
        "possible");
  CHECK(model_error(R"({"mixer":{"type":"dense","num_heads":4096,"num_kv_heads":1,"head_dim":4096}})") ==
        "config: mixer.head_dim is 4096 but num_heads times head_dim must be at most 262144");
}

TEST_CASE("the faithful graph rotates globals unless told otherwise") {
  const auto rotates = [](const char* mixer) { return read(mixer).mixer_of(0).options["rotate_globals"].get<bool>(); };
  CHECK_FALSE(rotates(R"({"mixer":{"type":"halo_s"}})"));
  CHECK(rotates(R"({"mixer":{"type":"halo_s","graph":"faithful"}})"));
  CHECK_FALSE(rotates(R"({"mixer":{"type":"halo_s","graph":"faithful","rotate_globals":false}})"));
}

TEST_CASE("the registry knows the mixers of the list and explains each") {
  REQUIRE(mixer_registry().size() >= 2);
  for (const MixerEntry* entry : mixer_registry()) {
    CHECK(&find_mixer(entry->name) == entry);
    CHECK(entry->summary.size() > 10);
    CHECK(entry->paper.size() > 3);
    CHECK_FALSE(entry->help().empty());
    CHECK(model_config_help().find(fmt::format("mixer.type = {}", entry->name)) != std::string::npos);
  }
  CHECK_THROWS_AS(find_mixer("nothing"), UsageError);
}

TEST_CASE("an original HALO-S configuration becomes a faithful model") {
  const Json document = parse_json(
      R"({"model_type":"halo-s","architectures":["HaloSModel"],"halo_version":"2.2.0","torch_dtype":"float32",
          "vocab_size":100,"hidden_size":64,"num_layers":2,"num_heads":4,"num_kv_heads":2,"num_globals":3,
          "local_window":32,"dilated_offsets":[1,2,4],"num_random":5,"dropout":0.0,"max_seq_len":128,
          "use_swiglu":true})",
      "test");
  CHECK(is_original_halo_s(document));
  const OriginalHaloS original = read_original_halo_s(document);
  CHECK(original.num_neighbors() == 46);
  CHECK(config_to_json(config_from_json<OriginalHaloS>(config_to_json(original))) == config_to_json(original));
  const ModelConfig config = read_model_document(document);
  const Json& mixer = config.mixer_of(0).options;
  CHECK(mixer["graph"] == "faithful");
  CHECK(mixer["duplicates"] == "counted");
  CHECK(mixer["rotate_globals"] == true);
  CHECK(mixer["num_random"] == 5);
  CHECK(config.feed_forward.width == 256);
  CHECK(config.feed_forward.gate_init == GateInit::ones);
  CHECK(config.init == InitScheme::faithful);
  CHECK_FALSE(config.tie_embeddings);
  CHECK(to_model_config(original, HaloDuplicates::once).mixer_of(0).options["duplicates"] == "once");
  const ModelConfig baseline = to_baseline_config(original);
  CHECK(baseline.mixer_of(0).options["num_kv_heads"] == 4);
  CHECK(baseline.global_rows().count == 0);
}

TEST_CASE("bad original configurations are refused by field") {
  CHECK(original_error("{}") == "");
  CHECK(original_error(R"({"hidden_size":65})") ==
        "config: hidden_size is 65 but must be a multiple of num_heads, which is 8");
  CHECK(original_error(R"({"num_heads":3})") ==
        "config: num_heads is 3 but must be a multiple of num_kv_heads, which is 2");
  CHECK(original_error(R"({"num_heads":0})").find("config: num_heads is 0 but must be") == 0);
  CHECK(original_error(R"({"num_kv_heads":0})").find("config: num_kv_heads is 0 but must be") == 0);
  CHECK(original_error(R"({"num_globals":0})").find("config: num_globals is 0 but must be") == 0);
  CHECK(original_error(R"({"vocab_size":0})").find("config: vocab_size is 0 but must be") == 0);
  CHECK(original_error(R"({"num_layers":-1})").find("config: num_layers is -1 but must be") == 0);
  CHECK(original_error(R"({"local_window":0})").find("config: local_window is 0 but must be") == 0);
  CHECK(original_error(R"({"dilated_offsets":[0]})").find("config: dilated_offsets is [0] but must be") == 0);
  CHECK(original_error(R"({"num_random":-1})").find("config: num_random is -1 but must be") == 0);
  CHECK(original_error(R"({"dropout":1.0})").find("config: dropout is 1.0 but must be") == 0);
  CHECK(original_error(R"({"max_seq_len":2})").find("config: max_seq_len is 2 but must be greater than num_globals") ==
        0);
  CHECK(original_error(R"({"hidden_size":24})").find("config: num_heads: 3 features a head") == 0);
  CHECK(original_error(R"({"use_swiglu":1})") == "config: use_swiglu is 1 but must be true or false");
  CHECK(original_error(R"({"flavour":1})").find("config: unknown key 'flavour'") == 0);
}

TEST_CASE("a configuration file is read by what it says it is") {
  const test::TemporaryFolder folder;
  const std::string path = folder.path() / "config.json";
  std::ofstream(path) << model_document(read(R"({"vocab_size":7})")).dump();
  CHECK(load_model_config(path).vocab_size == 7);
  std::ofstream(path) << R"({"model_type":"llama"})";
  CHECK(error_of([&] { load_model_config(path); }) ==
        path + ": config: model_type is \"llama\" but must be \"subquad\" or \"halo-s\"");
}

TEST_CASE("every preset is a valid model") {
  CHECK(presets().size() == 16);
  for (const Preset& preset : presets()) {
    INFO(preset.name);
    const Json document = preset_document(preset.name);
    CHECK(document["about"].get<std::string>().size() > 20);
    CHECK_NOTHROW(config_from_json<ModelConfig>(document["model"], "model"));
  }
  CHECK(error_of([] {
          preset_document("halo-s-tini");
        }).find("preset: 'halo-s-tini' is unknown; did you mean 'halo-s-tiny'?; known are ") == 0);
}
