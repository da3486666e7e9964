#include "tests/golden/bsbr/golden_features.h"

#include "autograd/engine.h"
#include "nn/decay_gates.h"
#include "nn/feature_map.h"
#include "ops/elementwise.h"
#include "ops/l2_normalize.h"
#include "ops/view.h"
#include "tests/golden/bsbr/bsbr_file.h"

#include <charconv>

namespace golden {

using namespace sq;

namespace {

using Map = std::function<Tensor(const Tensor&)>;

/// The whole numbers in a name, in order.
std::vector<std::int64_t> numbers_in(const std::string& name) {
  std::vector<std::int64_t> result;
  for (const char *at = name.data(), *end = at + name.size(); at != end;) {
    std::int64_t value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error == std::errc() && next != at && *at != '-') {
      result.push_back(value);
      at = next;
    } else {
      ++at;
    }
  }
  return result;
}

/// A feature map with the parameters of the file.
Map feature_map(const BsbrFile& file, const std::string& name, FeatureOptions options, DType dtype) {
  Generator unused(0);
  Initializer init(InitScheme::scaled, 1, 1, unused, {.dtype = dtype});
  if (options.kind == FeatureKind::favor_positive) options.random_features = file.at("favor.omega").size(0);
  const auto map = std::make_shared<FeatureMap>(options, file.at("x").size(-1), init);
  NamedTensors state = file.below(name + ".");
  std::erase_if(state,
                [](const auto& entry) { return entry.first == "y" || entry.first == "dy" || entry.first == "dx"; });
  if (options.kind == FeatureKind::favor_positive) state.emplace_back("directions", file.at("favor.omega"));
  map->load_state_dict(state, "golden");
  return [map](const Tensor& x) { return map->forward(x); };
}

/// The function that a file calls `name`; empty when unknown.
Map find_map(const BsbrFile& file, const std::string& name, DType dtype) {
  if (name == "sigmoid") return [](const Tensor& x) { return sigmoid(x); };
  if (name == "gelu_erf") return [](const Tensor& x) { return gelu(x); };
  if (name == "gelu_tanh") return [](const Tensor& x) { return gelu(x, Gelu::tanh); };
  if (name == "l2norm") return [](const Tensor& x) { return l2_normalize(x); };
  FeatureOptions options;
  std::string_view kind = name;
  if (name == "softmax_feature") kind = "softmax";
  if (name.starts_with("dpfp_nu")) {
    kind = "dpfp";
    options.order = numbers_in(name).back();
  }
  const auto names = choices(options.kind);
  const auto found = std::find(names.begin(), names.end(), kind);
  if (found == names.end()) return {};
  options.kind = static_cast<FeatureKind>(found - names.begin());
  return feature_map(file, name, options, dtype);
}

void check_map(Comparison& comparison, const BsbrFile& file, const std::string& name, DType dtype) {
  const Map map = find_map(file, name, dtype);
  if (!map) return comparison.fail(name + ": no function of that name");
  const Tensor x = file.leaf("x", dtype), y = map(x);
  compare(comparison, Quantity::value, name + ".y", y, file.at(name + ".y"), dtype);
  backward(y, file.at(name + ".dy", dtype));
  compare(comparison, Quantity::gradient, name + ".dx", grad(x), file.at(name + ".dx"), dtype);
}

/// A column of numbers in the dtype and on the device of the file's.
Tensor column(const std::vector<double>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

void check_gate(Comparison& comparison, const BsbrFile& file, const std::string& name, DType dtype) {
  const auto given = [&](const std::string& input) { return file.at("gate." + input, dtype); };
  const auto features = [&] {  // [H,1] and [H,K] for inputs [B,T,H,K]
    const Tensor a = given("a_kda");
    return std::pair{reshape(given("A_log"), {a.size(2), 1}), reshape(given("dt_bias_kda"), {a.size(2), a.size(3)})};
  };
  Tensor g;
  if (name == "gate.gated_delta.g") {
    g = softplus_decay(given("a"), given("A_log"), given("dt_bias"));
  } else if (name == "gate.kda.g") {
    g = softplus_decay(given("a_kda"), features().first, features().second);
  } else if (name == "gate.kda_lower_bound.g") {
    g = bounded_decay(given("a_kda"), features().first, features().second);
  } else if (name == "gate.gla.g") {
    g = log_sigmoid_decay(given("a_kda"), 16);
  } else if (name == "gate.forgetting.g") {
    g = log_sigmoid_decay(given("a"));
  } else if (name.starts_with("gate.retention.")) {
    g = column(retention_decays(numbers_in(name).at(0)));
  } else if (name.starts_with("gate.lightning.")) {
    const std::vector<std::int64_t> sizes = numbers_in(name);
    g = column(lightning_decays(sizes.at(0), sizes.at(1), sizes.at(2)));
  } else {
    return comparison.fail(name + ": no gate of that name");
  }
  compare(comparison, Quantity::value, name, g, file.at(name), dtype);
}

}  // namespace

Result check_feature_maps(const std::filesystem::path& path) {
  const BsbrFile file(path);
  Comparison comparison;
  for (const DType dtype : kTypes)
    for (const auto& entry : file.tensors()) {
      const std::string& name = entry.first;
      if (name.ends_with(".y")) check_map(comparison, file, name.substr(0, name.size() - 2), dtype);
      if (name.starts_with("gate.") && (name.ends_with(".g") || name.find(".log_decay") != std::string::npos))
        check_gate(comparison, file, name, dtype);
    }
  return comparison.result();
}

}  // namespace golden
