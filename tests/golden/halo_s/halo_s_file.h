// tests/golden/halo_s/halo_s_file.h: what the golden files of HALO-S have in common.
#pragma once

#include "models/checkpoints/halo_s.h"
#include "models/language_model.h"
#include "tests/golden/harness.h"

#include <memory>

namespace golden {

/// One golden file: tensors, configuration, settings, tolerances.
class HaloSFile {
 public:
  explicit HaloSFile(const std::filesystem::path& path);

  /// On the device under test.
  sq::Tensor at(const std::string& name) const { return sq::moved(file_.at(name), sq::default_device()); }
  bool contains(const std::string& name) const { return file_.contains(name); }
  const sq::NamedTensors& tensors() const { return file_.tensors(); }
  const Json& settings() const { return settings_; }
  /// The tolerance of this name.
  double tolerance(const std::string& name) const { return tolerance_.at(name).get<double>(); }
  /// The tolerance of values computed in `dtype`.
  double tolerance(sq::DType dtype) const { return tolerance(std::string(sq::name(dtype))); }

  /// The twelve fields of the original, and the same as our model in the mode that the file asks for.
  sq::OriginalHaloS original() const;
  sq::ModelConfig model_config() const;
  sq::HaloSConfig halo_s_config() const;

  /// Tensors that are weights: those without a prefix like "input.".
  sq::NamedTensors weights() const;

 private:
  sq::SafetensorsFile file_;
  Json settings_;
  Json tolerance_;
};

/// A model with the file's weights, in evaluation mode.
std::unique_ptr<sq::LanguageModel> make_model(const HaloSFile& file, const sq::ModelConfig& config, sq::DType dtype);

/// Compares the gradients of `module` with PREFIX.NAME of the file for every parameter; one that has none counts as
/// zero.
void compare_gradients(Comparison& comparison, const HaloSFile& file, const sq::Module& module,
                       const std::string& prefix, double tolerance);

}  // namespace golden
