#include "models/checkpoints/gpt2.h"

#include "autograd/grad_mode.h"
#include "models/checkpoints/hugging_face.h"
#include "models/model_folder.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_gpt2.h"

using namespace sq;
using namespace sq::test;

namespace {

template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

/// The error of tiny_gpt2_config() with `key` set to `value` (JSON text).
std::string config_error(const std::string& key, const std::string& value) {
  Json config = tiny_gpt2_config();
  config[key] = Json::parse(value);
  return error_of([&] { read_gpt2_config(config, "c"); });
}

Gpt2Config tiny_with(const Json& changes = Json::object()) {
  Json config = tiny_gpt2_config();
  config.update(changes);
  return read_gpt2_config(config, "c");
}

Tensor find(const NamedTensors& tensors, const std::string& name) {
  for (const auto& entry : tensors)
    if (entry.first == name) return entry.second;
  FAIL(name << " is missing");
  return {};
}

std::string tensors_error(const NamedTensors& tensors, const Json& changes = Json::object()) {
  return error_of([&] { convert_gpt2_tensors(tiny_with(changes), {}, tensors, "w"); });
}

Tensor logits_of(const std::filesystem::path& folder) {
  const NoGrad unrecorded;
  return import_gpt2(folder).model->forward(Tensor::from<std::int64_t>({3, 1, 4, 1, 5, 9, 2, 6}, {1, 8}));
}

}  // namespace

TEST_CASE("GPT-2's configuration becomes a model with its shell") {
  const ModelConfig model = to_model_config(tiny_with({{"layer_norm_epsilon", 1e-3}, {"n_inner", 24}}));
  CHECK(model.mixer_of(1).type == "dense");
  CHECK(model.mixer_of(1).options["num_kv_heads"] == 2);
  CHECK(model.positions.type == PositionKind::learned);
  CHECK(model.feed_forward.type == FeedForwardKind::gelu_tanh);
  CHECK(model.feed_forward.width == 24);
  CHECK(model.norm.epsilon == 1e-3);
  CHECK(model.max_tokens() == 16);
  CHECK(model.tie_embeddings);
  CHECK(model.bias);
  CHECK(to_model_config(tiny_with()).feed_forward.width == 32);
  CHECK(to_model_config(tiny_with({{"activation_function", "gelu"}})).feed_forward.type == FeedForwardKind::gelu);
}

TEST_CASE("the sizes of GPT-2 have two sets of names") {
  Json config = tiny_gpt2_config();
  for (const char* key : {"n_embd", "n_layer", "n_head", "n_positions", "n_inner"}) config.erase(key);
  CHECK(error_of([&] { read_gpt2_config(config, "c"); }) == "c: neither n_embd nor hidden_size is given");
  config.update({{"hidden_size", 8},
                 {"num_hidden_layers", 2},
                 {"num_attention_heads", 2},
                 {"max_position_embeddings", 16},
                 {"intermediate_size", 20}});
  CHECK(read_gpt2_config(config, "c").num_layers == 2);
  CHECK(read_gpt2_config(config, "c").inner_size == 20);
  config["n_layer"] = 3;
  CHECK(error_of([&] { read_gpt2_config(config, "c"); }) ==
        "c: n_layer is 3 but num_hidden_layers is 2; they mean the same");
}

TEST_CASE("another model or an option that is not computed is refused by name") {
  CHECK(config_error("model_type", "\"llama\"") == "c: model_type is \"llama\", but only \"gpt2\" can be converted");
  CHECK(config_error("model_type", "null") == "c: model_type is absent, but only \"gpt2\" can be converted");
  CHECK(config_error("architectures", "[\"GPT2ForSequenceClassification\"]").find("only [\"GPT2LMHeadModel\"]") !=
        std::string::npos);
  CHECK(config_error("add_cross_attention", "true") == "c: add_cross_attention is true, which is not computed here");
  CHECK(config_error("activation_function", "\"relu\"") ==
        "c: activation_function is \"relu\", but only gelu_new, gelu_pytorch_tanh, gelu_fast and gelu are computed");
  CHECK(config_error("n_layer", "0") == "c: n_layer is 0 but must be an integer from 1 to 4096");
  CHECK(config_error("n_embd", "\"8\"") == "c: n_embd is \"8\" but must be an integer from 1 to 262144");
  CHECK(config_error("n_embd", "18446744073709551615").find("c: n_embd is 18446744073709551615 but must be") == 0);
  CHECK(config_error("n_head", "3") == "c: n_embd is 8 but must be a multiple of n_head, 3");
  CHECK(config_error("layer_norm_epsilon", "-1").find("c: layer_norm_epsilon is -1 but must be") == 0);
  CHECK(config_error("layer_norm_epsilon", "0") == "c: layer_norm_epsilon is 0 but must be positive");
  CHECK(config_error("resid_pdrop", "1").find("c: resid_pdrop is 1 but must be") == 0);
  CHECK(config_error("scale_attn_weights", "1") == "c: scale_attn_weights is 1 but must be true or false");
  CHECK(error_of([] { read_gpt2_config(Json::array(), "c"); }) == "c: the document is no object");
}

TEST_CASE("tensors come under our names, linear maps transposed") {
  const NamedTensors source = tiny_gpt2_tensors(), result = convert_gpt2_tensors(tiny_with(), {}, source, "w");
  const Tensor attention = find(source, "h.1.attn.c_attn.weight"), bias = find(source, "h.1.attn.c_attn.bias");
  CHECK(bit_equal(find(result, "layers.1.attn.v_proj.weight"), packed(transpose(slice(attention, 1, 16, 24), 0, 1))));
  CHECK(bit_equal(find(result, "layers.1.attn.k_proj.bias"), packed(slice(bias, 0, 8, 16))));
  CHECK(bit_equal(find(result, "layers.0.ffn.w2.weight"),
                  packed(transpose(find(source, "h.0.mlp.c_proj.weight"), 0, 1))));
  CHECK_FALSE(find(result, "token_emb.weight").shares_memory_with(find(source, "wte.weight")));
}

TEST_CASE("the scaling options of attention move into the queries") {
  const NamedTensors source = tiny_gpt2_tensors();
  const auto query = [&](const Json& changes, int layer) {
    return find(convert_gpt2_tensors(tiny_with(changes), {}, source, "w"),
                fmt::format("layers.{}.attn.q_proj.weight", layer));
  };
  check_close(query({{"scale_attn_weights", false}}, 0), mul(query(Json::object(), 0), 2));  // √4
  check_close(query({{"scale_attn_by_inverse_layer_idx", true}}, 1), div(query(Json::object(), 1), 2));
  CHECK(bit_equal(query({{"reorder_and_upcast_attn", true}}, 1), query(Json::object(), 1)));
}

TEST_CASE("prefixed names, masks and a tied head change nothing") {
  const TemporaryFolder folder;
  write_gpt2(folder.path() / "plain", tiny_gpt2_config(), tiny_gpt2_tensors());
  NamedTensors more = tiny_gpt2_tensors("transformer.");
  more.emplace_back("transformer.h.0.attn.bias", Tensor::ones({1, 1, 16, 16}));
  more.emplace_back("transformer.h.0.attn.masked_bias", Tensor::scalar(-1e4));
  more.emplace_back("lm_head.weight", more.front().second);
  write_gpt2(folder.path() / "more", tiny_gpt2_config(), more);
  CHECK(bit_equal(logits_of(folder.path() / "plain"), logits_of(folder.path() / "more")));
  more.back().second = Tensor::ones({11, 8});
  CHECK(tensors_error(more).find("w: lm_head.weight is not wte.weight") == 0);
  const Json untied{{"tie_word_embeddings", false}};
  CHECK(tensors_error(more, untied) == "");
  CHECK(find(convert_gpt2_tensors(tiny_with(untied), {}, more, "w"), "lm_head.weight").shape() == Shape{11, 8});
  CHECK(tensors_error(tiny_gpt2_tensors(), untied).ends_with("missing: lm_head.weight"));
}

TEST_CASE("all tensors that do not fit are listed at once") {
  NamedTensors tensors = tiny_gpt2_tensors();
  tensors[3].second = Tensor::zeros({9});  // h.0.ln_1.bias
  tensors.erase(tensors.begin() + 1);      // wpe.weight
  tensors.pop_back();                      // ln_f.bias
  tensors.emplace_back("score.weight", Tensor::zeros({2}));
  CHECK(tensors_error(tensors) ==
        "w: the tensors are not those of the GPT-2 that config.json describes; missing: wpe.weight, ln_f.bias; "
        "unknown: score.weight; wrong shape or type: h.0.ln_1.bias is f32[9] but must be [8]");
  CHECK(tensors_error(tiny_gpt2_tensors("", 1)).find("missing: h.1.ln_1.weight, h.1.ln_1.bias, h.1.attn.c_attn") !=
        std::string::npos);
  CHECK(tensors_error(tiny_gpt2_tensors("", 3)).find("unknown: h.2.attn.c_attn.bias") != std::string::npos);
  NamedTensors twice = tiny_gpt2_tensors();
  twice.emplace_back("transformer.wte.weight", twice.front().second);
  CHECK(tensors_error(twice) == "w: 'wte.weight' is there with and without 'transformer.'");
}

TEST_CASE("weights in several files are found through their index") {
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole", parts = folder.path() / "parts";
  const NamedTensors all = tiny_gpt2_tensors();
  write_gpt2(whole, tiny_gpt2_config(), all);
  write_gpt2(parts, tiny_gpt2_config(), {});
  std::filesystem::remove(parts / "model.safetensors");
  Json map = Json::object();
  NamedTensors first(all.begin(), all.begin() + 5), second(all.begin() + 5, all.end());
  for (const auto& entry : first) map[entry.first] = "one.safetensors";
  for (const auto& entry : second) map[entry.first] = "two.safetensors";
  save_safetensors(parts / "one.safetensors", first);
  save_safetensors(parts / "two.safetensors", second);
  const auto index = [&](const Json& document) {
    replace_file(parts / "model.safetensors.index.json", document.dump());
    return error_of([&] { read_hugging_face_weights(parts); });
  };
  CHECK(index({{"metadata", {{"total_size", 1}}}, {"weight_map", map}}) == "");
  CHECK(bit_equal(logits_of(whole), logits_of(parts)));
  map["extra"] = "two.safetensors";
  map.erase("wte.weight");
  CHECK(index({{"weight_map", map}})
            .find("one.safetensors: the file does not hold what model.safetensors.index.json "
                  "says; missing: none; unexpected: wte.weight") != std::string::npos);
  CHECK(index({{"weight_map", {{"a", "../a.safetensors"}}}}).find("which is no name of a file in the folder") !=
        std::string::npos);
  CHECK(index({{"weight_map", {{"a", "three.safetensors"}}}}).find("three.safetensors") != std::string::npos);
  CHECK(index({{"weight_map", {{"a", 3}}}}).find("the file of tensor 'a' is no text") != std::string::npos);
  CHECK(index({{"weight_map", Json::object()}}).find("is empty") != std::string::npos);
  CHECK(index(Json::array()).find("\"weight_map\" is missing") != std::string::npos);
}

TEST_CASE("a folder without readable weights is refused with what to do") {
  const TemporaryFolder folder;
  CHECK(error_of([&] { import_gpt2(folder.path() / "nowhere"); }).find("nowhere: this is no folder") !=
        std::string::npos);
  CHECK(error_of([&] { import_gpt2(folder.path()); }).find("config.json") != std::string::npos);
  replace_file(folder.path() / "config.json", tiny_gpt2_config().dump());
  CHECK(error_of([&] {
          import_gpt2(folder.path());
        }).find("neither model.safetensors nor model.safetensors.index.json is there") != std::string::npos);
  replace_file(folder.path() / "pytorch_model.bin", "\x80\x02");
  CHECK(error_of([&] {
          import_gpt2(folder.path());
        }).find("the weights are in pytorch_model.bin, which is not read; save them as model.safetensors") !=
        std::string::npos);
}

TEST_CASE("with block-sparse attention, a text that fits a chunk has GPT-2's logits") {
  const TemporaryFolder folder;
  write_gpt2(folder.path(), tiny_gpt2_config(), tiny_gpt2_tensors());
  const auto logits = [&](const Gpt2Target& target) {
    const NoGrad unrecorded;
    return import_gpt2(folder.path(), target).model->forward(Tensor::from<std::int64_t>({3, 1, 4, 1, 5, 9}, {1, 6}));
  };
  const Tensor dense = logits({});
  using Mixer = Gpt2Target::Mixer;
  CHECK(relative_error(logits({.mixer = Mixer::bsbr, .chunk_size = 6, .retrieval_gate = 1}), dense) < 1e-5);
  const Tensor cut = logits({.mixer = Mixer::bsbr, .chunk_size = 4, .retrieval_gate = 1});
  CHECK(relative_error(slice(cut, 1, 0, 4), slice(dense, 1, 0, 4)) < 1e-5);
  const Tensor local = logits({.mixer = Mixer::bsbr, .chunk_size = 4});
  CHECK_FALSE(bit_equal(packed(slice(cut, 1, 4, 6)), packed(slice(local, 1, 4, 6))));
}

TEST_CASE("what block-sparse attention adds is made of q, k and v") {
  const Gpt2Target target{.mixer = Gpt2Target::Mixer::bsbr, .chunk_size = 4, .retrieval_gate = 0.25};
  const NamedTensors result = convert_gpt2_tensors(tiny_with(), target, tiny_gpt2_tensors(), "w");
  const auto part = [&](const std::string& name) { return find(result, "layers.1.attn." + name); };
  check_close(part("meta_r_proj.weight"), mul(add(part("q_proj.weight"), part("k_proj.weight")), 0.5));
  check_close(part("meta_h_proj.bias"), mul(add(part("k_proj.bias"), part("v_proj.bias")), 0.5));
  CHECK(part("retrieval_gate").to_vector<double>() == std::vector<double>{0.25, 0.25});
  CHECK(error_of([&] { to_model_config(tiny_with(), {.mixer = Gpt2Target::Mixer::bsbr, .retrieval_gate = NAN}); }) ==
        "retrieval_gate: nan is no finite number");
}

TEST_CASE("a converted model is saved and read as any other") {
  const TemporaryFolder folder;
  write_gpt2(folder.path() / "gpt2", tiny_gpt2_config(), tiny_gpt2_tensors());
  const auto model = import_gpt2(folder.path() / "gpt2").model;
  save_model(folder.path() / "ours", *model);
  const NoGrad unrecorded;
  const Tensor ids = Tensor::from<std::int64_t>({3, 1, 4}, {1, 3});
  CHECK(bit_equal(load_model(folder.path() / "ours")->forward(ids), model->forward(ids)));
}
