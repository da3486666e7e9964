#include "tests/golden/harness.h"

#include "tests/support/relative_error.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>

namespace golden {

int run(const std::string& system, const std::filesystem::path& own_folder,
        const std::map<std::string, Check>& checks) {
  const char* outside = std::getenv("SUBQUAD_GOLDEN_DIR");
  const std::filesystem::path folder = outside ? std::filesystem::path(outside) / system : own_folder;
  std::set<std::filesystem::path> files;
  std::error_code problem;
  for (const auto& entry : std::filesystem::directory_iterator(folder, problem))
    if (entry.path().extension() == ".safetensors" || entry.path().extension() == ".json" ||
        entry.path().extension() == ".csv")
      files.insert(entry.path());
  Result total;
  if (files.empty()) total.failures.push_back(fmt::format("no golden files in '{}'", folder.string()));
  for (const auto& path : files) {
    const std::string name = path.filename().string();
    const auto check = checks.find(name);
    Result result;
    if (check == checks.end()) {
      result.failures.push_back("no check knows this file");
    } else {
      try {
        result = check->second(path);
        if (result.tensors == 0) result.failures.push_back("nothing was compared");
      } catch (const std::exception& error) {
        result.failures.push_back(error.what());
      }
    }
    fmt::print("{:<36} {:>5} tensors, worst {:.2e}{}\n", name, result.tensors, result.worst_error,
               result.failures.empty() ? "" : "  FAILED");
    for (const std::string& failure : result.failures) total.failures.push_back(name + ": " + failure);
    total.tensors += result.tensors;
    total.worst_error = std::max(total.worst_error, result.worst_error);
  }
  if (!outside)
    for (const auto& [name, check] : checks)
      if (!files.contains(folder / name)) total.failures.push_back(name + ": the file is missing");
  for (const std::string& failure : total.failures) fmt::print("FAILED {}\n", failure);
  fmt::print("files {}, tensors {}, worst relative error {:.3g}\n", files.size(), total.tensors, total.worst_error);
  return total.failures.empty() ? 0 : 1;
}

void Comparison::close(const std::string& name, const sq::Tensor& got, const sq::Tensor& want, double tolerance) {
  ++result_.tensors;
  const double error = sq::test::relative_error(got, want);
  if (error <= tolerance) {
    result_.worst_error = std::max(result_.worst_error, error);
    return;
  }
  fail(fmt::format("{}: {} against {}: error {:.3g} exceeds {:.3g}", name, got, want, error, tolerance));
}

void Comparison::within(const std::string& name, const sq::Tensor& got, const sq::Tensor& want, double absolute,
                        double relative) {
  const std::vector<double> values = want.to_vector<double>();
  double largest = 0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  // relative_error divides by `largest`, or by nothing where that is 0.
  const double allowed = largest > 0 ? absolute / largest + relative : absolute;
  ++result_.tensors;
  const double error = sq::test::relative_error(got, want);
  if (!(error <= allowed)) {
    fail(fmt::format("{}: {} against {}: error {:.3g} of the largest value exceeds {:.3g}", name, got, want, error,
                     allowed));
    return;
  }
  // What lies below the absolute bound is noise, however large it looks beside nothing.
  if (largest > absolute) result_.worst_error = std::max(result_.worst_error, error);
}

void Comparison::equal(const std::string& name, const sq::Tensor& got, const sq::Tensor& want) {
  ++result_.tensors;
  if (got.shape() != want.shape() || got.to_vector<std::int64_t>() != want.to_vector<std::int64_t>())
    fail(fmt::format("{}: {} and {} differ", name, got, want));
}

Json metadata(const sq::SafetensorsFile& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  sq::require_input(found != file.metadata().end(), "golden", "the metadata has no '{}'", key);
  return Json::parse(found->second);
}

}  // namespace golden
