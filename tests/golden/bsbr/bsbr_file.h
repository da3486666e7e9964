// tests/golden/bsbr/bsbr_file.h: what the golden files of the BSBR family have in common.
#pragma once

#include "nn/module.h"
#include "tests/golden/harness.h"

#include <array>

namespace golden {

/// One golden file: tensors, and a configuration in its metadata.
class BsbrFile {
 public:
  explicit BsbrFile(const std::filesystem::path& path) : file_(path) {}

  /// On the device under test, as stored or in `dtype`.
  sq::Tensor at(const std::string& name) const;
  sq::Tensor at(const std::string& name, sq::DType dtype) const;
  /// The same as a leaf that wants a gradient.
  sq::Tensor leaf(const std::string& name, sq::DType dtype) const;
  bool contains(const std::string& name) const { return file_.contains(name); }
  const sq::NamedTensors& tensors() const { return file_.tensors(); }
  /// Tensors whose names begin with `prefix`, without it.
  sq::NamedTensors below(const std::string& prefix) const;

  /// Metadata as text and as a number, e.g. text("name") == "bsbr", number("chunk") == 16.
  std::string text(const std::string& key) const;
  double number(const std::string& key) const;

 private:
  sq::SafetensorsFile file_;
};

/// The dtypes in which every formula is computed.
inline constexpr std::array kTypes{sq::DType::f64, sq::DType::f32};

/// What is compared. The files hold f32 numbers that were computed in f64.
enum class Quantity { value, gradient, loss };

/// Compares with the tolerance of the quantity and of the dtype it was computed in: f32 values 1e-5 + 2e-5·max,
/// gradients 1e-4 + 1e-4·max, losses 1e-5 relative; f64 all 1e-6 + 1e-6·max. `got` may be undefined: a gradient that is
/// zero.
void compare(Comparison& comparison, Quantity quantity, const std::string& name, const sq::Tensor& got,
             const sq::Tensor& want, sq::DType dtype);

}  // namespace golden
