// tests/support/tiny_gpt2.h: a GPT-2 folder as Hugging Face writes it, of any size and with any faults.
#pragma once

#include "tensor/file.h"
#include "tensor/random.h"
#include "tensor/safetensors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <filesystem>

namespace sq::test {

/// config.json of a GPT-2 with V=11, C=8, 2 layers, 2 heads, 16 positions.
inline nlohmann::ordered_json tiny_gpt2_config() {
  return nlohmann::ordered_json::parse(
      R"({"activation_function":"gelu_new","architectures":["GPT2LMHeadModel"],"attn_pdrop":0.1,"bos_token_id":10,
          "embd_pdrop":0.1,"eos_token_id":10,"initializer_range":0.02,"layer_norm_epsilon":1e-05,"model_type":"gpt2",
          "n_ctx":16,"n_embd":8,"n_head":2,"n_inner":null,"n_layer":2,"n_positions":16,"resid_pdrop":0.1,
          "scale_attn_weights":true,"use_cache":true,"vocab_size":11})");
}

/// Its tensors, random, each name beginning with `prefix`.
inline NamedTensors tiny_gpt2_tensors(const std::string& prefix = "", std::int64_t layers = 2) {
  NamedTensors tensors;
  Generator generator(7);
  const auto add = [&](const std::string& name, const Shape& shape) {
    Tensor value = Tensor::zeros(shape);
    fill_normal_(value, 0, 0.3, generator);
    tensors.emplace_back(prefix + name, value);
  };
  const auto pair = [&](const std::string& name, const Shape& weight, std::int64_t bias) {
    add(name + ".weight", weight);
    add(name + ".bias", {bias});
  };
  add("wte.weight", {11, 8});
  add("wpe.weight", {16, 8});
  for (std::int64_t n = 0; n < layers; ++n) {
    const std::string layer = fmt::format("h.{}.", n);
    pair(layer + "ln_1", {8}, 8);
    pair(layer + "attn.c_attn", {8, 24}, 24);
    pair(layer + "attn.c_proj", {8, 8}, 8);
    pair(layer + "ln_2", {8}, 8);
    pair(layer + "mlp.c_fc", {8, 32}, 32);
    pair(layer + "mlp.c_proj", {32, 8}, 8);
  }
  pair("ln_f", {8}, 8);
  return tensors;
}

inline void write_gpt2(const std::filesystem::path& folder, const nlohmann::ordered_json& config,
                       const NamedTensors& tensors) {
  std::filesystem::create_directories(folder);
  replace_file(folder / "config.json", config.dump());
  save_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
}

}  // namespace sq::test
