// tensor/safetensors.h: named tensors in a file, in the safetensors format.
//
// The file: 8 bytes, the header's length n as little-endian u64; n bytes of JSON, {"name": {"dtype": "F32", "shape":
// [2,3], "data_offsets": [begin, end]}, …, "__metadata__": {"key": "text"}}; then the data, little-endian and
// row-major, offsets counted from its start. Tensors fill the data without gap or overlap.
#pragma once

#include "tensor/tensor.h"

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace sq {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// An open safetensors file. Everything in the header is checked before a byte of data is used; tensors are read-only
/// windows on the mapped file and keep it mapped.
class SafetensorsFile {
 public:
  /// Throws UsageError naming the file and what is wrong with it: missing, shorter than its header says, header not
  /// JSON, unknown dtype, size that does not follow from shape and dtype, offsets outside the data, overlaps, gaps.
  explicit SafetensorsFile(const std::filesystem::path& path);
  /// The same for bytes in memory; `label` stands for the path in errors.
  SafetensorsFile(std::shared_ptr<Storage> bytes, std::string label);

  /// In the order of the data.
  const NamedTensors& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool contains(std::string_view name) const;
  /// Throws UsageError naming the file and the tensor when there is none of that name.
  const Tensor& at(std::string_view name) const;

 private:
  std::string label_;
  NamedTensors tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes the tensors in the given order (packed, little-endian), replacing `path` in one step (tensor/file.h).
/// Returns the checksum of the bytes written. Throws Error on duplicate names and when the disk refuses.
std::uint64_t save_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                               const std::map<std::string, std::string>& metadata = {});

}  // namespace sq
