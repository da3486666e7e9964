#include "tests/golden/halo_s/golden_estimators.h"

#include "models/estimate.h"
#include "models/estimate_original.h"
#include "nn/mixers/pattern.h"

#include <cmath>
#include <map>
#include <sstream>

namespace golden {
namespace {

using sq::Json;

/// Collects comparisons of one configuration.
class Comparison {
 public:
  Comparison(Result& result, std::string where) : result_(result), where_(std::move(where)) {}

  /// Integers, booleans and texts must be equal; numbers to the last digits of a double.
  void value(const std::string& name, const Json& ours, const Json& expected) {
    ++result_.tensors;
    double error = ours == expected ? 0 : 1;
    if (ours.is_number() && expected.is_number() && error > 0) {
      const double a = ours.get<double>(), b = expected.get<double>();
      error = std::abs(a - b) / std::max(std::abs(b), 1e-300);
      if (ours.is_number_float() && error < 1e-15) return;
    }
    if (error == 0) return;
    result_.worst_error = std::max(result_.worst_error, error);
    result_.failures.push_back(where_ + name + " is " + ours.dump() + " but must be " + expected.dump());
  }

  /// Every key of `expected`, and no other.
  void object(const std::string& name, const Json& ours, const Json& expected) {
    for (const auto& [key, wanted] : expected.items()) value(name + "." + key, ours.value(key, Json()), wanted);
    if (ours.size() != expected.size())
      result_.failures.push_back(where_ + name + " has " + std::to_string(expected.size()) + " keys, ours " +
                                 std::to_string(ours.size()));
  }

 private:
  Result& result_;
  std::string where_;
};

Json flops_json(const sq::original::Flops& f) {
  return {{"attention_flops", f.attention}, {"global_flops", f.global}, {"ffn_flops", f.feed_forward},
          {"lm_head_flops", f.lm_head},     {"total_flops", f.total()}, {"total_gflops", f.gigaflops()}};
}

Json memory_json(const sq::original::Memory& m) {
  return {{"parameters_mb", m.parameters_mb}, {"kv_cache_mb", m.kv_cache_mb}, {"total_estimated_mb", m.total_mb}};
}

Json statistics_json(const sq::GraphStatistics& s) {
  return {{"seq_len", s.seq_len},
          {"num_neighbors", s.num_neighbors},
          {"sparse_memory_mb", s.sparse_memory_mb},
          {"dense_memory_mb", s.dense_memory_mb},
          {"compression_ratio", s.compression_ratio},
          {"total_connections", s.total_connections},
          {"dense_connections", s.dense_connections}};
}

Json shapes_json(const sq::NamedShapes& shapes) {
  Json json = Json::object();
  for (const auto& [name, shape] : shapes) json[name] = std::vector<std::int64_t>(shape.begin(), shape.end());
  return json;
}

/// The lines of the text, the memory as a number: how many zeros end it is not specified.
Json summary_json(const std::string& text) {
  Json lines = Json::array();
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    const std::string label = "  Memoria estimada: ";
    if (line.rfind(label, 0) == 0) {
      std::size_t end = 0;
      lines.push_back({label, std::stod(line.substr(label.size()), &end), line.substr(label.size() + end)});
    } else {
      lines.push_back(line);
    }
  }
  return lines;
}

/// "4x4096": batch and tokens.
std::pair<std::int64_t, std::int64_t> batch_and_tokens(const std::string& key) {
  const auto cross = key.find('x');
  return {std::stoll(key.substr(0, cross)), std::stoll(key.substr(cross + 1))};
}

void check_entry(const Json& expected, Comparison& compare) {
  const sq::OriginalHaloS config = sq::read_original_halo_s(expected.at("config"));
  const sq::ModelConfig model = sq::to_model_config(config, sq::HaloDuplicates::counted);
  for (const auto& [key, want] : expected.items()) {
    if (key == "config") {
      compare.object(key, sq::config_to_json(config), want);
    } else if (key == "head_dim") {
      compare.value(key, config.head_dim(), want);
    } else if (key == "num_neighbors") {
      compare.value(key, config.num_neighbors(), want);
    } else if (key == "parameters") {
      compare.value(key, sq::original::parameters(config), want);
      compare.value(key + " counted", sq::count_parameters(model), want);
    } else if (key == "baseline_parameters") {
      compare.value(key, sq::original::baseline_parameters(config), want);
      compare.value(key + " counted", sq::count_parameters(sq::to_baseline_config(config)), want);
    } else if (key == "model_flops") {
      for (const auto& [n, flops] : want.items())
        compare.object(key + " " + n, flops_json(sq::original::model_flops(config, std::stoll(n))), flops);
    } else if (key == "standalone_flops") {
      for (const auto& [n, flops] : want.items())
        compare.object(key + " " + n, flops_json(sq::original::standalone_flops(config, std::stoll(n))), flops);
    } else if (key == "memory") {
      for (const auto& [sizes, memory] : want.items()) {
        const auto [batch, tokens] = batch_and_tokens(sizes);
        compare.object(key + " " + sizes, memory_json(sq::original::memory(config, batch, tokens)), memory);
      }
    } else if (key == "graph_stats") {
      compare.object(key, statistics_json(sq::graph_statistics(want.at("seq_len"), config.num_neighbors())), want);
    } else if (key == "summary") {
      compare.value(key, summary_json(sq::original::summary(config)), summary_json(want.get<std::string>()));
    } else if (key == "parameter_shapes") {
      if (!want.is_null()) compare.object(key, shapes_json(sq::parameter_shapes(model)), want);
    } else {
      compare.value(key, "nothing known", want);
    }
  }
}

}  // namespace

Result check_estimators(const std::string& path) {
  Result result;
  const Json document = sq::read_json_file(path);
  std::size_t n = 0;
  for (const Json& entry : document.at("estimators")) {
    Comparison compare(result, path + ": configuration " + std::to_string(n++) + ": ");
    check_entry(entry, compare);
  }
  if (n == 0) result.failures.push_back(path + ": no configurations");
  return result;
}

}  // namespace golden
