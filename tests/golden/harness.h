// tests/golden/harness.h: runs the checks of one system's folder of golden numbers.
#pragma once

#include "tensor/safetensors.h"
#include "tests/support/golden.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace golden {

using Json = nlohmann::ordered_json;
using Check = std::function<Result(const std::filesystem::path&)>;

/// Checks every file in the folder of `system`: `own_folder`, or $SUBQUAD_GOLDEN_DIR/SYSTEM when that is set. A file
/// without a check fails; so does, in the own folder, a check without its file (a folder from outside may hold a part).
/// Prints each failure and ends with "files F, tensors T, worst relative error E". The exit status is 0 if nothing
/// failed.
int run(const std::string& system, const std::filesystem::path& own_folder, const std::map<std::string, Check>& checks);

/// Collects comparisons of tensors with what a golden file says.
class Comparison {
 public:
  /// Error = max |got - want| / max |want|, plain max |got| where `want` is all zero.
  void close(const std::string& name, const sq::Tensor& got, const sq::Tensor& want, double tolerance);
  /// |got - want| <= absolute + relative · max |want| everywhere, which also judges values that should be zero.
  void within(const std::string& name, const sq::Tensor& got, const sq::Tensor& want, double absolute, double relative);
  /// The same shape and values.
  void equal(const std::string& name, const sq::Tensor& got, const sq::Tensor& want);
  void fail(const std::string& text) { result_.failures.push_back(text); }
  const Result& result() const { return result_; }

 private:
  Result result_;
};

/// JSON that a safetensors file carries under `key` of its metadata.
Json metadata(const sq::SafetensorsFile& file, const std::string& key);

}  // namespace golden
