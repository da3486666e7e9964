#include "models/checkpoints/gpt2.h"

#include "autograd/grad_mode.h"
#include "models/checkpoints/hugging_face.h"
#include "nn/mixers/dense_config.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <set>

namespace sq {
namespace {

/// Reads members of config.json; every error begins with the file.
class ConfigReader {
 public:
  ConfigReader(const Json& document, std::string_view where) : document_(document), where_(where) {
    require_input(document.is_object(), where, "the document is no object");
  }

  /// The value of one of two keys that mean the same; null counts as absent.
  const Json* find(std::string_view key, std::string_view other = "") const {
    const Json* first = member(key);
    const Json* second = other.empty() ? nullptr : member(other);
    require_input(!first || !second || *first == *second, where_, "{} is {} but {} is {}; they mean the same", key,
                  show(first), other, show(second));
    return first ? first : second;
  }

  std::int64_t size(std::string_view key, std::string_view other, std::int64_t most) const {
    const Json* value = find(key, other);
    require_input(value != nullptr, where_, "neither {} nor {} is given", key, other);
    require_input(value->is_number_integer() && *value >= 1 && *value <= most, where_,
                  "{} is {} but must be an integer from 1 to {}", key, show(value), most);
    return value->get<std::int64_t>();
  }
  double real(std::string_view key, double usual, double most) const {
    const Json* value = find(key);
    if (!value) return usual;
    require_input(value->is_number() && *value >= 0.0 && *value < most, where_,
                  "{} is {} but must be a number >= 0 and < {}", key, show(value), most);
    return value->get<double>();
  }
  bool flag(std::string_view key, bool usual) const {
    const Json* value = find(key);
    if (!value) return usual;
    require_input(value->is_boolean(), where_, "{} is {} but must be true or false", key, show(value));
    return value->get<bool>();
  }

  static std::string show(const Json* value) {
    return value ? value->dump(-1, ' ', false, Json::error_handler_t::replace) : "absent";
  }

 private:
  const Json* member(std::string_view key) const {
    const auto found = document_.find(std::string(key));
    return found == document_.end() || found->is_null() ? nullptr : &*found;
  }

  const Json& document_;
  std::string_view where_;
};

void check_architecture(const ConfigReader& reader, std::string_view where) {
  const Json* type = reader.find("model_type");
  require_input(type && *type == "gpt2", where, "model_type is {}, but only \"gpt2\" can be converted",
                ConfigReader::show(type));
  const Json* architectures = reader.find("architectures");
  if (!architectures) return;
  const std::set<std::string> known{"GPT2LMHeadModel", "GPT2Model"};
  require_input(architectures->is_array() && architectures->size() == 1 && architectures->front().is_string() &&
                    known.contains(architectures->front().get<std::string>()),
                where, "architectures is {}, but only [\"GPT2LMHeadModel\"] and [\"GPT2Model\"] can be converted",
                ConfigReader::show(architectures));
}

FeedForwardKind read_activation(const ConfigReader& reader, std::string_view where) {
  const Json* value = reader.find("activation_function", "hidden_act");
  if (!value) return FeedForwardKind::gelu_tanh;
  for (const char* name : {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"})
    if (*value == name) return FeedForwardKind::gelu_tanh;
  require_input(*value == "gelu", where,
                "activation_function is {}, but only gelu_new, gelu_pytorch_tanh, gelu_fast and gelu are computed",
                ConfigReader::show(value));
  return FeedForwardKind::gelu;
}

constexpr const char* kHead = "lm_head.weight";

/// What a file must hold, names without `transformer.`; the head only where it is no copy of the embedding.
NamedShapes shapes_of(const Gpt2Config& config) {
  const std::int64_t width = config.hidden_size, inner = config.inner_size;
  NamedShapes shapes{{"wte.weight", {config.vocab_size, width}}, {"wpe.weight", {config.max_positions, width}}};
  const auto add = [&](const std::string& name, const Shape& weight, std::int64_t bias) {
    shapes.emplace_back(name + ".weight", weight);
    shapes.emplace_back(name + ".bias", Shape{bias});
  };
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = fmt::format("h.{}.", layer);
    add(prefix + "ln_1", {width}, width);
    add(prefix + "attn.c_attn", {width, 3 * width}, 3 * width);
    add(prefix + "attn.c_proj", {width, width}, width);
    add(prefix + "ln_2", {width}, width);
    add(prefix + "mlp.c_fc", {width, inner}, inner);
    add(prefix + "mlp.c_proj", {inner, width}, width);
  }
  add("ln_f", {width}, width);
  if (!config.tied_head) shapes.emplace_back(kHead, Shape{config.vocab_size, width});
  return shapes;
}

bool is_mask(const std::string& name) {
  return name.starts_with("h.") && (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
}

/// Tensors by name without `transformer.`.
using Source = std::map<std::string, Tensor>;

Source without_prefix(const NamedTensors& tensors, std::string_view where) {
  constexpr std::string_view prefix = "transformer.";
  Source source;
  for (const auto& [name, tensor] : tensors) {
    const std::string plain = name.starts_with(prefix) ? name.substr(prefix.size()) : name;
    require_input(source.emplace(plain, tensor).second, where, "'{}' is there with and without '{}'", plain, prefix);
  }
  return source;
}

/// Throws UsageError that lists everything that is missing, unknown or misshapen.
void check_tensors(const Gpt2Config& config, const Source& source, std::string_view where) {
  std::vector<std::string> missing, misshapen, unknown, problems;
  std::set<std::string> known;
  NamedShapes shapes = shapes_of(config);
  if (config.tied_head && source.contains(kHead)) shapes.emplace_back(kHead, shapes.front().second);
  for (const auto& [name, shape] : shapes) {
    known.insert(name);
    const auto found = source.find(name);
    if (found == source.end())
      missing.push_back(name);
    else if (found->second.shape() != shape || !is_float(found->second.dtype()))
      misshapen.push_back(fmt::format("{} is {}{} but must be {}", name, sq::name(found->second.dtype()),
                                      found->second.shape(), shape));
  }
  for (const auto& entry : source)
    if (!known.contains(entry.first) && !is_mask(entry.first)) unknown.push_back(entry.first);
  if (!missing.empty()) problems.push_back(fmt::format("missing: {}", fmt::join(missing, ", ")));
  if (!unknown.empty()) problems.push_back(fmt::format("unknown: {}", fmt::join(unknown, ", ")));
  if (!misshapen.empty()) problems.push_back(fmt::format("wrong shape or type: {}", fmt::join(misshapen, "; ")));
  require_input(problems.empty(), where, "the tensors are not those of the GPT-2 that config.json describes; {}",
                fmt::join(problems, "; "));
}

/// f32 values of a tensor that may be stored otherwise.
Tensor copied(const Tensor& tensor) { return packed_copy(tensor, DType::f32); }

/// Copies tensors to our names.
class Conversion {
 public:
  Conversion(const Gpt2Config& config, const Source& source) : config_(config), source_(source) {}

  void copy(const std::string& from, const std::string& to) { put(to, source_.at(from)); }
  void copy_norm(const std::string& from, const std::string& to) {
    for (const char* part : {".weight", ".bias"}) copy(from + part, to + part);
  }
  /// A linear map stored [in,out].
  void copy_linear(const std::string& from, const std::string& to) {
    put(to + ".weight", transpose(source_.at(from + ".weight"), 0, 1));
    put(to + ".bias", source_.at(from + ".bias"));
  }

  void copy_layer(std::int64_t layer, const Gpt2Target& target) {
    const std::string from = fmt::format("h.{}.", layer), to = fmt::format("layers.{}.", layer);
    copy_norm(from + "ln_1", to + "ln_1");
    split_attention(from + "attn.c_attn", to + "attn.", layer);
    copy_linear(from + "attn.c_proj", to + "attn.o_proj");
    if (target.mixer == Gpt2Target::Mixer::bsbr) {
      put(to + "attn.retrieval_gate", Tensor::full({config_.num_heads}, target.retrieval_gate));
      put_mean(to + "attn.", "meta_r_proj", "q_proj", "k_proj");
      put_mean(to + "attn.", "meta_h_proj", "k_proj", "v_proj");
    }
    copy_norm(from + "ln_2", to + "ln_2");
    copy_linear(from + "mlp.c_fc", to + "ffn.w1");
    copy_linear(from + "mlp.c_proj", to + "ffn.w2");
  }

  NamedTensors tensors;

 private:
  void put(const std::string& name, const Tensor& value, double factor = 1) {
    const Tensor copy = copied(value);
    tensors.emplace_back(name, factor == 1 ? copy : mul(copy, factor));
    by_name_[name] = tensors.back().second;
  }

  void split_attention(const std::string& from, const std::string& to, std::int64_t layer) {
    const Tensor weight = source_.at(from + ".weight"), bias = source_.at(from + ".bias");
    std::int64_t begin = 0;
    for (const std::string part : {"q", "k", "v"}) {
      const std::int64_t end = begin + config_.hidden_size;
      const double factor = part == "q" ? config_.query_factor(layer) : 1;
      put(to + part + "_proj.weight", transpose(slice(weight, 1, begin, end), 0, 1), factor);
      put(to + part + "_proj.bias", slice(bias, 0, begin, end), factor);
      begin = end;
    }
  }

  void put_mean(const std::string& prefix, std::string_view to, std::string_view a, std::string_view b) {
    for (const char* part : {"weight", "bias"}) {
      const auto named = [&](std::string_view module) { return fmt::format("{}{}.{}", prefix, module, part); };
      put(named(to), mul(add(by_name_.at(named(a)), by_name_.at(named(b))), 0.5));
    }
  }

  const Gpt2Config& config_;
  const Source& source_;
  std::map<std::string, Tensor> by_name_;
};

}  // namespace

double Gpt2Config::query_factor(std::int64_t layer) const {
  const double head_width = static_cast<double>(hidden_size) / static_cast<double>(num_heads);
  return (scale_scores ? 1 : std::sqrt(head_width)) / (scale_by_layer ? static_cast<double>(layer + 1) : 1);
}

Gpt2Config read_gpt2_config(const Json& document, std::string_view where) {
  const ConfigReader reader(document, where);
  check_architecture(reader, where);
  for (const char* option : {"add_cross_attention", "is_encoder_decoder"})
    require_input(!reader.flag(option, false), where, "{} is true, which is not computed here", option);
  Gpt2Config config;
  config.vocab_size = reader.size("vocab_size", "vocab_size", 1 << 30);
  config.hidden_size = reader.size("n_embd", "hidden_size", 1 << 18);
  config.num_layers = reader.size("n_layer", "num_hidden_layers", 1 << 12);
  config.num_heads = reader.size("n_head", "num_attention_heads", 1 << 12);
  config.max_positions = reader.size("n_positions", "max_position_embeddings", 1 << 26);
  require_input(config.hidden_size % config.num_heads == 0, where, "n_embd is {} but must be a multiple of n_head, {}",
                config.hidden_size, config.num_heads);
  const bool has_inner = reader.find("n_inner", "intermediate_size") != nullptr;
  config.inner_size = has_inner ? reader.size("n_inner", "intermediate_size", 1 << 22) : 4 * config.hidden_size;
  config.layer_norm_epsilon = reader.real("layer_norm_epsilon", 1e-5, 1);
  require_input(config.layer_norm_epsilon > 0, where, "layer_norm_epsilon is 0 but must be positive");
  config.activation = read_activation(reader, where);
  config.dropout = reader.real("resid_pdrop", 0.1, 1);
  config.embedding_dropout = reader.real("embd_pdrop", 0.1, 1);
  config.tied_head = reader.flag("tie_word_embeddings", true);
  config.scale_scores = reader.flag("scale_attn_weights", true);
  config.scale_by_layer = reader.flag("scale_attn_by_inverse_layer_idx", false);
  // reorder_and_upcast_attn orders the same arithmetic differently for 16-bit floats; ours is in f32 at least anyway.
  (void)reader.flag("reorder_and_upcast_attn", false);
  return config;
}

ModelConfig to_model_config(const Gpt2Config& config, const Gpt2Target& target) {
  Json mixer{{"type", "dense"}, {"num_heads", config.num_heads}, {"num_kv_heads", config.num_heads}};
  if (target.mixer == Gpt2Target::Mixer::bsbr)
    mixer = Json{{"type", "bsbr"},
                 {"num_heads", config.num_heads},
                 {"chunk_size", target.chunk_size},
                 {"state_norm", target.state_norm},
                 {"gate", target.retrieval_gate == 0 ? "zero" : "one"}};
  require_input(std::isfinite(target.retrieval_gate), "retrieval_gate", "{} is no finite number",
                target.retrieval_gate);
  ModelConfig model;
  model.vocab_size = config.vocab_size;
  model.hidden_size = config.hidden_size;
  model.num_layers = config.num_layers;
  model.max_seq_len = config.max_positions;
  model.mixer = LayerMixers::from_json(mixer, "mixer");
  model.norm = {.type = NormKind::layer, .epsilon = config.layer_norm_epsilon, .bias = true};
  model.feed_forward = {.type = config.activation, .width = config.inner_size, .bias = true};
  model.positions.type = PositionKind::learned;
  model.tie_embeddings = config.tied_head;
  model.bias = true;
  model.dropout = config.dropout;
  model.embedding_dropout = config.embedding_dropout;
  check_config(model);
  return model;
}

NamedTensors convert_gpt2_tensors(const Gpt2Config& config, const Gpt2Target& target, const NamedTensors& tensors,
                                  std::string_view where) {
  const NoGrad unrecorded;
  const Source source = without_prefix(tensors, where);
  check_tensors(config, source, where);
  Conversion conversion(config, source);
  conversion.copy("wte.weight", "token_emb.weight");
  conversion.copy("wpe.weight", "pos_emb.weight");
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) conversion.copy_layer(layer, target);
  conversion.copy_norm("ln_f", "ln_f");
  if (!config.tied_head)
    conversion.copy(kHead, kHead);
  else if (source.contains(kHead))
    require_input(bit_equal(copied(source.at(kHead)), copied(source.at("wte.weight"))), where,
                  "lm_head.weight is not wte.weight; if the model has a head of its own, set tie_word_embeddings to "
                  "false in config.json");
  return std::move(conversion.tensors);
}

Gpt2Import import_gpt2(const std::filesystem::path& folder, const Gpt2Target& target) {
  require_input(std::filesystem::is_directory(folder), folder.string(), "this is no folder");
  const std::string path = (folder / "config.json").string();
  const Gpt2Config config = read_gpt2_config(read_json_file(path), path);
  const ModelConfig model_config = to_model_config(config, target);
  const NamedTensors tensors = convert_gpt2_tensors(config, target, read_hugging_face_weights(folder), folder.string());
  Generator unused(0);  // every value is replaced
  auto model = std::make_unique<LanguageModel>(model_config, TensorOptions{}, unused);
  model->load_state_dict(tensors, folder.string());
  model->eval();
  return {config, std::move(model)};
}

}  // namespace sq
