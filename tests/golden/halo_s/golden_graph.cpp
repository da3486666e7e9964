#include "tests/golden/halo_s/golden_graph.h"

#include "nn/mixers/pattern.h"
#include "tensor/safetensors.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <functional>

namespace golden {
namespace {

using MakeList = std::function<sq::NeighborTable(const sq::Json& arguments, const sq::HaloSConfig& config)>;

sq::HaloSConfig config_of(const sq::Json& arguments) {
  sq::HaloSConfig config;
  config.num_globals = arguments.at("num_globals");
  config.local_window = arguments.at("local_window");
  config.dilated_offsets = arguments.at("dilated_offsets").get<std::vector<std::int64_t>>();
  config.num_random = arguments.at("num_random");
  return config;
}

/// Every tensor of the file is `case{n}.neighbors`, made by the n-th entry of settings.cases.
Result compare(const std::string& path, const MakeList& make) {
  Result result;
  const sq::SafetensorsFile file(path);
  const sq::Json settings = sq::Json::parse(file.metadata().at("settings"));
  const sq::Json& cases = settings.at("cases");
  for (std::size_t n = 0; n < cases.size(); ++n) {
    const std::string name = fmt::format("case{}.neighbors", n);
    const sq::NeighborTable list = make(cases[n], config_of(cases[n]));
    const sq::Tensor& expected = file.at(name);
    ++result.tensors;
    const std::vector<std::int64_t> ours(list.index.begin(), list.index.end());
    if (expected.shape() != sq::Shape{list.rows, list.columns} || expected.to_vector<std::int64_t>() != ours) {
      result.failures.push_back(fmt::format("{}: {} differs from the list of shape [{},{}] made for {}", path, name,
                                            list.rows, list.columns, cases[n].dump()));
      result.worst_error = 1;
    }
  }
  if (file.tensors().size() != cases.size())
    result.failures.push_back(
        fmt::format("{}: {} tensors but {} cases in its settings", path, file.tensors().size(), cases.size()));
  return result;
}

}  // namespace

Result check_graph(const std::string& path) {
  return compare(path, [](const sq::Json& arguments, const sq::HaloSConfig& config) {
    return sq::faithful_graph(arguments.at("seq_len"), arguments.at("layer_id"), config);
  });
}

Result check_graph_causal(const std::string& path) {
  return compare(path, [](const sq::Json& arguments, const sq::HaloSConfig& config) {
    return sq::causal_graph(0, arguments.at("seq_len"), arguments.at("layer_id"), config, arguments.at("max_seq_len"));
  });
}

}  // namespace golden
