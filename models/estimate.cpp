#include "models/estimate.h"

#include "nn/mixers/registry.h"

#include <algorithm>

namespace sq {
namespace {

void append(NamedShapes& to, const std::string& prefix, const NamedShapes& shapes) {
  for (const auto& [name, shape] : shapes) to.emplace_back(prefix + name, shape);
}

NamedShapes norm_shapes(const ModelConfig& config) {
  NamedShapes shapes{{"weight", {config.hidden_size}}};
  if (config.norm.type == NormKind::layer && config.norm.bias) shapes.emplace_back("bias", Shape{config.hidden_size});
  return shapes;
}

std::int64_t inner_width(const ModelConfig& config) {
  return FeedForward::inner_width(config.hidden_size, config.feed_forward.options(config.dropout));
}

NamedShapes feed_forward_shapes(const ModelConfig& config) {
  const std::int64_t outer = config.hidden_size, inner = inner_width(config);
  NamedShapes shapes;
  const auto add = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    shapes.emplace_back(name + ".weight", Shape{out, in});
    if (config.feed_forward.bias) shapes.emplace_back(name + ".bias", Shape{out});
  };
  add("w1", inner, outer);
  add("w2", outer, inner);
  if (config.feed_forward.type == FeedForwardKind::swiglu) add("w3", inner, outer);
  return shapes;
}

NamedShapes embedding_shapes(const ModelConfig& config) {
  NamedShapes shapes;
  const std::int64_t globals = config.global_rows().count;
  if (globals > 0) shapes.emplace_back("global_memory", Shape{globals, config.hidden_size});
  shapes.emplace_back("token_emb.weight", Shape{config.vocab_size, config.hidden_size});
  if (config.positions.type == PositionKind::learned)
    shapes.emplace_back("pos_emb.weight", Shape{config.max_tokens(), config.hidden_size});
  return shapes;
}

NamedShapes head_shapes(const ModelConfig& config) {
  if (config.tie_embeddings) return {};
  return {{"lm_head.weight", {config.vocab_size, config.hidden_size}}};
}

PartEstimate mixer_part(const ModelConfig& config, std::int64_t layer, std::int64_t tokens) {
  const MixerConfig& mixer = config.mixer_of(layer);
  const Cost cost = find_mixer(mixer.type).cost(mixer.options, config.context(layer), tokens);
  return {mixer.type, cost.parameters, cost.forward_flops, cost.state_bytes};
}

void add(PartEstimate& to, const PartEstimate& part) {
  to.parameters += part.parameters;
  to.forward_flops += part.forward_flops;
  to.state_bytes += part.state_bytes;
}

void add_part(std::vector<PartEstimate>& parts, const PartEstimate& part) {
  const auto found =
      std::find_if(parts.begin(), parts.end(), [&](const PartEstimate& other) { return other.part == part.part; });
  if (found == parts.end()) {
    parts.push_back(part);
  } else {
    add(*found, part);
  }
}

std::int64_t state_bytes(const ModelConfig& config, std::int64_t tokens) {
  std::int64_t bytes = 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer)
    bytes += mixer_part(config, layer, tokens).state_bytes;
  return bytes;
}

/// 12,345,678.
std::string grouped(std::int64_t value) {
  std::string digits = fmt::format("{}", value);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<std::size_t>(i), ",");
  return digits;
}

/// 512 B, 1.5 KiB, 103.1 MiB.
std::string bytes_text(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(units); ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, units[unit]);
}

}  // namespace

NamedShapes parameter_shapes(const ModelConfig& config) {
  require_input(config.vocab_size > 0, "config", "vocab_size is 0 but must be set to the tokenizer's size first");
  NamedShapes shapes = embedding_shapes(config);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = fmt::format("layers.{}.", layer);
    const MixerConfig& mixer = config.mixer_of(layer);
    append(shapes, prefix + "ln_1.", norm_shapes(config));
    append(shapes, prefix, find_mixer(mixer.type).parameters(mixer.options, config.context(layer)));
    append(shapes, prefix + "ln_2.", norm_shapes(config));
    append(shapes, prefix + "ffn.", feed_forward_shapes(config));
  }
  append(shapes, "ln_f.", norm_shapes(config));
  append(shapes, "", head_shapes(config));
  return shapes;
}

std::int64_t count_parameters(const ModelConfig& config) { return count_elements(parameter_shapes(config)); }

ModelEstimate estimate_model(const ModelConfig& config, std::int64_t tokens) {
  require_input(tokens >= 1 && tokens <= config.max_tokens(), "summary",
                "{} tokens are not between 1 and the model's longest sequence, {}", tokens, config.max_tokens());
  require_input(config.vocab_size > 0, "config", "vocab_size is 0 but must be set to the tokenizer's size first");
  ModelEstimate e;
  e.tokens = tokens;
  const double head_flops = product({2, tokens, config.hidden_size, config.vocab_size});
  const PartEstimate feed_forward{"feed-forward", count_elements(feed_forward_shapes(config)), 0, 0};
  const std::int64_t rows = config.global_rows().total(tokens);
  const std::int64_t matrices = config.feed_forward.type == FeedForwardKind::swiglu ? 3 : 2;
  add_part(e.parts, {"embeddings", count_elements(embedding_shapes(config)), 0, 0});
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    add_part(e.parts, mixer_part(config, layer, tokens));
    PartEstimate part = feed_forward;
    part.forward_flops = product({2, rows, config.hidden_size, inner_width(config), matrices});
    add_part(e.parts, part);
  }
  add_part(e.parts, {"norms", (2 * config.num_layers + 1) * count_elements(norm_shapes(config)), 0, 0});
  add_part(e.parts, {"head", count_elements(head_shapes(config)), head_flops, 0});
  e.total.part = "total";
  for (const PartEstimate& part : e.parts) add(e.total, part);
  e.weight_bytes = 4 * e.total.parameters;
  e.training_bytes = 3 * e.weight_bytes;
  const std::int64_t half = tokens / 2;
  e.state_bytes_per_token =
      static_cast<double>(e.total.state_bytes - state_bytes(config, half)) / static_cast<double>(tokens - half);
  return e;
}

std::string summary_table(const ModelConfig& config, const ModelEstimate& e) {
  const auto per_token = [&](double flops) { return flops / static_cast<double>(e.tokens) / 1e6; };
  std::string text = fmt::format(
      "{} layers, hidden size {}, vocabulary {}, up to {} tokens\n"
      "{:<14}  {:>15}  {:>16}  {:>14}\n",
      config.num_layers, config.hidden_size, config.vocab_size, config.max_tokens(), "part", "parameters",
      "MFLOP per token", "state");
  const auto line = [&](const PartEstimate& part) {
    text += fmt::format("{:<14}  {:>15}  {:>16.3f}  {:>14}\n", part.part, grouped(part.parameters),
                        per_token(part.forward_flops), bytes_text(static_cast<double>(part.state_bytes)));
  };
  for (const PartEstimate& part : e.parts) line(part);
  line(e.total);
  text += fmt::format(
      "forward pass and decoding state at {} tokens, batch 1, f32; a multiply-add counts two\n"
      "weights {}, gradients and optimizer {} more, decoding state {} per token\n",
      grouped(e.tokens), bytes_text(static_cast<double>(e.weight_bytes)),
      bytes_text(static_cast<double>(e.training_bytes)), bytes_text(e.state_bytes_per_token));
  return text;
}

Json summary_json(const ModelEstimate& e) {
  Json parts = Json::array();
  for (const PartEstimate& part : e.parts)
    parts.push_back({{"part", part.part},
                     {"parameters", part.parameters},
                     {"forward_flops", part.forward_flops},
                     {"state_bytes", part.state_bytes}});
  return {{"parameters", e.total.parameters},
          {"forward_flops", e.total.forward_flops},
          {"forward_flops_per_token", e.total.forward_flops / static_cast<double>(e.tokens)},
          {"weight_bytes", e.weight_bytes},
          {"training_bytes", e.training_bytes},
          {"state_bytes", e.total.state_bytes},
          {"state_bytes_per_token", e.state_bytes_per_token},
          {"tokens", e.tokens},
          {"parts", parts}};
}

}  // namespace sq
