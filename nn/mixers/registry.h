// nn/mixers/registry.h: the table of mixers. A name in nn/mixers/mixers.list becomes one row; the rows' order is the
// list's. Each mixer exports `const MixerEntry NAME_entry`.
#pragma once

#include "nn/fields.h"
#include "nn/init.h"
#include "nn/mixers/mixer.h"
#include "nn/mixers/plan.h"

#include <span>
#include <string_view>
#include <vector>

namespace sq {

/// One row: what a mixer is called and what its options are. The functions take options as `normalise` returned them.
struct MixerEntry {
  std::string_view name;
  std::string_view summary;  // one sentence for help and documentation
  std::string_view paper;    // where the idea is from

  /// Options as written (without "type") → all options, checked. Throws UsageError with keys under `path`.
  Json (*normalise)(const Json& options, std::string_view path);
  /// Rules between the options and the model around them. Throws UsageError.
  void (*check)(const Json& options, const MixerContext& context, std::string_view path);
  NamedShapes (*parameters)(const Json& options, const MixerContext& context);
  Cost (*cost)(const Json& options, const MixerContext& context, std::int64_t tokens);
  GlobalRows (*global_rows)(const Json& options);
  /// The mixer itself; its parameters are those of `parameters`, drawn from `init` in that order.
  std::unique_ptr<Mixer> (*make)(const Json& options, const MixerContext& context, Initializer& init);
  std::vector<FieldHelp> (*help)();
};

std::span<const MixerEntry* const> mixer_registry();

/// Throws UsageError that lists the known names.
const MixerEntry& find_mixer(std::string_view name, std::string_view path = "mixer.type");

namespace detail {
template <class Config>
Config read_options(const Json& options) {
  return config_from_json<Config>(options, "mixer");
}
}  // namespace detail

/// The row of a mixer whose options are `Config`: a described struct (nn/fields.h) that also has
///   void check(const MixerContext&, std::string_view path) const;
///   NamedShapes parameters(const MixerContext&) const;
///   Cost cost(const MixerContext&, std::int64_t tokens) const;
///   GlobalRows global_rows() const;
/// and whose class `Built` is made from (const Config&, const MixerContext&, Initializer&).
template <class Config, class Built>
constexpr MixerEntry mixer_entry(std::string_view name, std::string_view summary, std::string_view paper) {
  return {
      .name = name,
      .summary = summary,
      .paper = paper,
      .normalise = [](const Json& options,
                      std::string_view path) { return config_to_json(config_from_json<Config>(options, path)); },
      .check = [](const Json& options, const MixerContext& context,
                  std::string_view path) { detail::read_options<Config>(options).check(context, path); },
      .parameters =
          [](const Json& options, const MixerContext& context) {
            return detail::read_options<Config>(options).parameters(context);
          },
      .cost = [](const Json& options, const MixerContext& context,
                 std::int64_t tokens) { return detail::read_options<Config>(options).cost(context, tokens); },
      .global_rows = [](const Json& options) { return detail::read_options<Config>(options).global_rows(); },
      .make = [](const Json& options, const MixerContext& context, Initializer& init) -> std::unique_ptr<Mixer> {
        return std::make_unique<Built>(detail::read_options<Config>(options), context, init);
      },
      .help = [] { return config_help<Config>(); },
  };
}

}  // namespace sq
