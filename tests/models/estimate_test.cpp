#include "models/estimate.h"

#include "models/estimate_original.h"
#include "models/presets.h"
#include "nn/mixers/pattern.h"
#include "nn/mixers/summary_layout.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace sq;

namespace {

ModelConfig preset(std::string_view name, std::int64_t vocab_size) {
  ModelConfig config = config_from_json<ModelConfig>(preset_document(name)["model"], "model");
  if (config.vocab_size == 0) config.vocab_size = vocab_size;
  return config;
}

ModelConfig model(const std::string& text) { return config_from_json<ModelConfig>(parse_json(text, "test")); }

const PartEstimate& part(const ModelEstimate& estimate, std::string_view name) {
  for (const PartEstimate& p : estimate.parts)
    if (p.part == name) return p;
  throw Error("no such part");
}

/// Pairs (query, key) of `tokens` tokens, counted on the lists.
std::int64_t counted_pairs(const HaloSConfig& config, std::int64_t layer, std::int64_t tokens, std::int64_t max) {
  std::int64_t pairs = 0;
  for (const std::int32_t j : causal_graph(config.num_globals, tokens, layer, config, max).index) pairs += j >= 0;
  return pairs;
}

}  // namespace

TEST_CASE("published sizes come out exactly") {
  CHECK(count_parameters(preset("gpt2-124m", 0)) == 124439808);
  CHECK(original::parameters({}) == 27015168);
  CHECK(count_parameters(to_model_config({}, HaloDuplicates::counted)) == 27015168);
  const OriginalHaloS v1{.max_seq_len = 1024, .use_swiglu = false};
  CHECK(original::parameters(v1) == 20723712);
  OriginalHaloS v2 = v1;
  v2.vocab_size = 50257;
  CHECK(original::parameters(v2) == 71924736);
  CHECK(original::model_flops({}, 1024).gigaflops() == 49.6596);
  CHECK(original::standalone_flops({}, 1024).gigaflops() == 36.7495);
}

TEST_CASE("presets have the sizes that their names and descriptions say") {
  CHECK(count_parameters(preset("halo-s-100m", 256)) > 95'000'000);
  CHECK(count_parameters(preset("halo-s-100m", 256)) < 105'000'000);
  CHECK(count_parameters(preset("nanogpt-cpu", 65)) == 65 * 128 + 64 * 128 + 4 * (12 * 128 * 128 + 2 * 128) + 128);
  const std::int64_t halo = count_parameters(preset("halo-s-cpu", 65)),
                     dense = count_parameters(preset("dense-cpu", 65));
  CHECK(halo - dense == 2 * 128);  // the global rows
}

TEST_CASE("the tiny presets of the mixers have one shell and, within 2 %, one size") {
  const ModelConfig dense = preset("dense-tiny", 256);
  const auto size = static_cast<double>(count_parameters(dense));
  for (const char* name : {"linear", "delta-net", "sliding-window", "hopfield", "gau", "bsbr"}) {
    CAPTURE(name);
    const Json document = preset_document(fmt::format("{}-tiny", name));
    CHECK(document["training"] == preset_document("dense-tiny")["training"]);
    ModelConfig config = preset(fmt::format("{}-tiny", name), 256);
    CHECK(static_cast<double>(count_parameters(config)) == doctest::Approx(size).epsilon(0.02));
    CHECK(config.mixer_of(0).type != "dense");
    config.mixer = dense.mixer;
    config.feed_forward.width = dense.feed_forward.width;
    CHECK(config_to_json(config) == config_to_json(dense));
  }
}

TEST_CASE("parameters stand in the order of the original's files") {
  const OriginalHaloS original{.vocab_size = 50, .hidden_size = 64, .num_layers = 1, .num_heads = 4};
  std::vector<std::string> names;
  for (const auto& [name, shape] : parameter_shapes(to_model_config(original, HaloDuplicates::counted)))
    names.push_back(fmt::format("{} {}", name, shape));
  CHECK(names == std::vector<std::string>{"global_memory [2,64]",
                                          "token_emb.weight [50,64]",
                                          "layers.0.ln_1.weight [64]",
                                          "layers.0.ln_1.bias [64]",
                                          "layers.0.attn.q_proj.weight [64,64]",
                                          "layers.0.attn.k_proj.weight [32,64]",
                                          "layers.0.attn.v_proj.weight [32,64]",
                                          "layers.0.attn.o_proj.weight [64,64]",
                                          "layers.0.global_attn.q_proj.weight [64,64]",
                                          "layers.0.global_attn.k_proj.weight [32,64]",
                                          "layers.0.global_attn.v_proj.weight [32,64]",
                                          "layers.0.global_attn.o_proj.weight [64,64]",
                                          "layers.0.ln_2.weight [64]",
                                          "layers.0.ln_2.bias [64]",
                                          "layers.0.ffn.w1.weight [256,64]",
                                          "layers.0.ffn.w2.weight [64,256]",
                                          "layers.0.ffn.w3.weight [256,64]",
                                          "ln_f.weight [64]",
                                          "ln_f.bias [64]",
                                          "lm_head.weight [50,64]"});
}

TEST_CASE("parts add up") {
  for (const Preset& p : presets()) {
    const ModelConfig config = preset(p.name, 256);
    const ModelEstimate e = estimate_model(config, std::min<std::int64_t>(config.max_tokens(), 200));
    CHECK(e.total.parameters == count_parameters(config));
    CHECK(e.weight_bytes == 4 * e.total.parameters);
    double flops = 0;
    for (const PartEstimate& line : e.parts) flops += line.forward_flops;
    CHECK(flops == e.total.forward_flops);
    CHECK(summary_json(e)["parameters"] == e.total.parameters);
  }
}

TEST_CASE("operations of dense attention, counted by hand") {
  // C 8, 2 query heads of 4, 1 key/value head, T 3: q 2·3·8·8, k and v 4·3·8·4, o 2·3·8·8, 6 pairs of 4·2·4.
  const ModelConfig config = model(
      R"({"vocab_size":5,"hidden_size":8,"num_layers":1,"max_seq_len":9,"mixer":{"type":"dense","num_heads":2,"num_kv_heads":1},
          "feed_forward":{"type":"gelu","width":10}})");
  const ModelEstimate e = estimate_model(config, 3);
  CHECK(part(e, "dense").forward_flops == 384 + 384 + 384 + 6 * 32);
  CHECK(part(e, "feed-forward").forward_flops == 2 * 2 * 3 * 8 * 10);
  CHECK(part(e, "head").forward_flops == 2 * 3 * 8 * 5);
  CHECK(part(e, "dense").state_bytes == 3 * 2 * 4 * 4);
  CHECK(e.state_bytes_per_token == 32);
}

TEST_CASE("operations of HALO-S follow the neighbors that its lists name") {
  for (const std::int64_t random : {0, 2}) {
    HaloSConfig halo{.num_heads = 2, .num_kv_heads = 1, .num_globals = 2, .local_window = 8, .dilated_offsets = {1, 2}};
    halo.num_random = random;
    for (const std::int64_t tokens : {1, 7, 8, 9, 61, 120}) {
      for (const std::int64_t layer : {0, 1}) {
        const MixerContext context{.hidden_size = 8, .num_layers = 2, .layer = layer, .max_seq_len = 122};
        const std::int64_t pairs = counted_pairs(halo, layer, tokens, 122);
        // attn: q, k, v, o for T+2 rows. global_attn: the same for 2 rows, 3 pairs; nothing in the last layer.
        const std::int64_t globals = layer == 0 ? 128 * 2 + 128 * 2 + 128 * 2 + 3 * 32 : 0;
        const std::int64_t exact = 3 * 128 * (tokens + 2) + 32 * pairs + globals;
        const double formula = halo.cost(context, tokens).forward_flops;
        if (random == 0) CHECK(formula == exact);
        CHECK(formula >= exact);
        CHECK(formula < 1.02 * static_cast<double>(exact));
      }
    }
  }
}

TEST_CASE("the faithful graph is counted without what the mask hides") {
  HaloSConfig halo{.num_heads = 2, .num_kv_heads = 1, .num_globals = 2, .local_window = 4, .dilated_offsets = {1, 3}};
  halo.graph = HaloGraph::faithful;
  const MixerContext context{.hidden_size = 8, .num_layers = 1, .layer = 0, .max_seq_len = 64};
  const double counted = halo.cost(context, 10).forward_flops;
  halo.duplicates = HaloDuplicates::once;
  const double once = halo.cost(context, 10).forward_flops;
  std::int64_t all = 0, distinct = 0;
  NeighborTable list = faithful_graph(12, 0, halo);
  for (std::int64_t i = 2; i < 12; ++i)
    for (const std::int32_t j : list.row(i)) all += j <= i;
  hide_future(list);
  hide_repeats(list);
  for (std::int64_t i = 2; i < 12; ++i)
    for (const std::int32_t j : list.row(i)) distinct += j >= 0;
  CHECK(counted - once == 32 * (all - distinct));
  CHECK(counted == 3 * 128 * 12 + 32 * all);
}

TEST_CASE("summaries are counted row by row") {
  HaloSConfig halo{.num_heads = 2, .num_kv_heads = 1, .num_globals = 2, .local_window = 3, .dilated_offsets = {1}};
  halo.num_random = 0;
  halo.globals = HaloGlobals::summary;
  const MixerContext context{.hidden_size = 8, .num_layers = 2, .layer = 0, .max_seq_len = 64};
  const MixerContext last{.hidden_size = 8, .num_layers = 2, .layer = 1, .max_seq_len = 64};
  std::int64_t pairs = 0;
  for (const std::int32_t j : summary_global_graph(0, 4, halo).index) pairs += j >= 0;
  // 10 tokens in 4 chunks: 8 summary rows, which read themselves and the 9 tokens of three chunks.
  CHECK(halo.cost(context, 10).forward_flops - halo.cost(last, 10).forward_flops +
            32 * (counted_pairs(halo, 1, 10, 64) - counted_pairs(halo, 0, 10, 64)) ==
        128 * 8 + 128 * (8 + 9) + 128 * 8 + 32 * pairs);
}

TEST_CASE("HALO-S costs the same per token at any length, dense attention more and more") {
  const auto per_token = [](std::string_view name, std::int64_t tokens) {
    const ModelEstimate e = estimate_model(preset(name, 256), tokens);
    return e.total.forward_flops / static_cast<double>(tokens);
  };
  CHECK(per_token("halo-s-quickstart", 4000) / per_token("halo-s-quickstart", 1000) < 1.02);
  CHECK(per_token("dense-quickstart", 4000) / per_token("dense-quickstart", 1000) > 1.1);
  CHECK(estimate_model(preset("halo-s-quickstart", 256), 4000).state_bytes_per_token == 6 * 2 * 2 * 64 * 4);
}

TEST_CASE("what cannot be estimated is refused") {
  const ModelConfig config = model("{}");
  CHECK_THROWS_WITH_AS(count_parameters(config),
                       "config: vocab_size is 0 but must be set to the tokenizer's size first", UsageError);
  CHECK_THROWS_WITH_AS(estimate_model(preset("nanogpt-cpu", 65), 65),
                       "summary: 65 tokens are not between 1 and the model's longest sequence, 64", UsageError);
  CHECK_THROWS_AS(estimate_model(preset("nanogpt-cpu", 65), 0), UsageError);
  OriginalHaloS vast{.vocab_size = 1 << 30, .hidden_size = 1 << 18, .num_layers = 1 << 12, .max_seq_len = 1 << 26};
  CHECK_THROWS_AS(original::model_flops(vast, 1 << 25), UsageError);
}

TEST_CASE("the largest sizes that a configuration may name overflow nothing") {
  for (const char* mixer : {R"({"type":"dense","num_heads":64,"num_kv_heads":64,"head_dim":4096})",
                            R"({"type":"halo_s","num_heads":4096,"num_kv_heads":4096,"num_globals":4096,
                                "globals":"summary","local_window":65536,"num_random":4096})"}) {
    const ModelConfig config = model(R"({"vocab_size":1073741824,"hidden_size":262144,"num_layers":4096,)"
                                     R"("max_seq_len":67108864,"feed_forward":{"width":4194304},"mixer":)" +
                                     std::string(mixer) + "}");
    const ModelEstimate e = estimate_model(config, config.max_tokens());
    CHECK(e.total.parameters > 1e15);
    CHECK(e.training_bytes == 12 * e.total.parameters);
    CHECK(e.training_bytes > 0);
    CHECK(e.total.state_bytes > 0);
    CHECK(e.total.forward_flops > 1e20);
  }
}

TEST_CASE("the table shows every part and the total") {
  const ModelConfig config = preset("gpt2-124m", 0);
  const std::string table = summary_table(config, estimate_model(config, 1024));
  for (const char* text : {"embeddings", "dense", "feed-forward", "norms", "head", "total", "124,439,808",
                           "weights 474.7 MiB", "72.0 KiB per token"}) {
    INFO(table);
    CHECK(table.find(text) != std::string::npos);
  }
}
