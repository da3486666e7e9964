// nn/residuals/residual.h: how a branch (a mixer or a feed-forward) reads from and adds to the residual streams.
//
// A layer is  streams ← r₁.apply(streams, mixer);  streams ← r₂.apply(streams, feed_forward).  The model starts with
// streams = expand(x) and ends with collapse(streams). The norm in front of the branch belongs to the wiring; its
// parameters are `weight` and `bias` of the residual itself, so that a layer that registers it as `ln_1` gets
// `ln_1.weight`.
#pragma once

#include "nn/fields.h"
#include "nn/init.h"
#include "nn/norm.h"

#include <functional>
#include <memory>
#include <span>
#include <string_view>

namespace sq {

/// [B,T,C] -> [B,T,C].
using Branch = std::function<Tensor(const Tensor&)>;

class Residual : public Module {
 public:
  virtual Tensor apply(const Tensor& streams, const Branch& branch) = 0;
  /// x [B,T,C] -> the streams that `apply` takes.
  virtual Tensor expand(const Tensor& x) const { return x; }
  /// Streams -> [B,T,C].
  virtual Tensor collapse(const Tensor& streams) const { return streams; }
};

/// What a residual is told about its place.
struct ResidualContext {
  std::int64_t hidden_size = 0;
  std::int64_t num_layers = 1;
  std::int64_t layer = 0;
  NormOptions norm;
};

/// One row of the table of residuals. `make` takes options as `normalise` returned them.
struct ResidualEntry {
  std::string_view name;
  std::string_view summary;  // one sentence for help and documentation
  std::string_view paper;    // where the idea is from

  /// Options as written (without "type") → all options, checked. Throws UsageError with keys under `path`.
  Json (*normalise)(const Json& options, std::string_view path);
  std::unique_ptr<Residual> (*make)(const Json& options, const ResidualContext& context, Initializer& init);
  std::vector<FieldHelp> (*help)();
};

/// The row of a residual whose options are `Config`, a described struct (nn/fields.h), and whose class `Built` is made
/// from (const Config&, const ResidualContext&, Initializer&).
template <class Config, class Built>
constexpr ResidualEntry residual_entry(std::string_view name, std::string_view summary, std::string_view paper) {
  return {
      .name = name,
      .summary = summary,
      .paper = paper,
      .normalise = [](const Json& options,
                      std::string_view path) { return config_to_json(config_from_json<Config>(options, path)); },
      .make = [](const Json& options, const ResidualContext& context, Initializer& init) -> std::unique_ptr<Residual> {
        return std::make_unique<Built>(config_from_json<Config>(options, "residual"), context, init);
      },
      .help = [] { return config_help<Config>(); },
  };
}

/// In the order of nn/residuals/residuals.list.
std::span<const ResidualEntry* const> residual_registry();

/// Throws UsageError that names `path` and lists the known names.
const ResidualEntry& find_residual(std::string_view name, std::string_view path = "residual");

}  // namespace sq
