#include "models/checkpoints/hugging_face.h"

#include "nn/json.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>

namespace sq {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// file -> the tensors that the index says are in it, files in the order of their names.
std::map<std::string, std::set<std::string>> read_index(const std::filesystem::path& path) {
  const Json index = read_json_file(path.string());
  const std::string label = path.string();
  require_input(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(), label,
                "an object \"weight_map\" is missing");
  std::map<std::string, std::set<std::string>> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    require_input(file.is_string(), label, "the file of tensor '{}' is no text", tensor);
    const std::filesystem::path name = file.get<std::string>();
    require_input(!name.empty() && name.filename() == name && name != "." && name != "..", label,
                  "tensor '{}' is said to be in '{}', which is no name of a file in the folder", tensor, name.string());
    files[name.string()].insert(tensor);
  }
  require_input(!files.empty(), label, "\"weight_map\" is empty");
  return files;
}

NamedTensors read_parts(const std::filesystem::path& folder) {
  NamedTensors tensors;
  for (const auto& [name, promised] : read_index(folder / kIndex)) {
    const SafetensorsFile file(folder / name);
    std::vector<std::string> missing, unexpected;
    for (const std::string& tensor : promised)
      if (!file.contains(tensor)) missing.push_back(tensor);
    for (const auto& entry : file.tensors())
      if (!promised.contains(entry.first)) unexpected.push_back(entry.first);
    require_input(missing.empty() && unexpected.empty(), (folder / name).string(),
                  "the file does not hold what {} says; missing: {}; unexpected: {}", kIndex,
                  missing.empty() ? "none" : fmt::format("{}", fmt::join(missing, ", ")),
                  unexpected.empty() ? "none" : fmt::format("{}", fmt::join(unexpected, ", ")));
    for (const auto& entry : file.tensors()) tensors.push_back(entry);
  }
  return tensors;
}

}  // namespace

NamedTensors read_hugging_face_weights(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / kSingle)) return SafetensorsFile(folder / kSingle).tensors();
  if (std::filesystem::exists(folder / kIndex)) return read_parts(folder);
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"})
    require_input(!std::filesystem::exists(folder / other), folder.string(),
                  "the weights are in {}, which is not read; save them as {}, in Python with "
                  "save_pretrained(folder, safe_serialization=True)",
                  other, kSingle);
  throw UsageError(fmt::format("{}: neither {} nor {} is there", folder.string(), kSingle, kIndex));
}

}  // namespace sq
