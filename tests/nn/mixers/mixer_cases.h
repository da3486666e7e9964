// tests/nn/mixers/mixer_cases.h: mixers to test, made from the registry.
#pragma once

#include "nn/mixers/registry.h"
#include "tests/support/compare.h"

#include <nlohmann/json.hpp>

#include <ostream>

namespace sq::test {

/// One configuration of one mixer.
struct MixerCase {
  const MixerEntry* entry;
  Json options;  // complete

  std::string name() const { return fmt::format("{} {}", entry->name, options.dump()); }

  /// The middle one of three layers of a small model, where nothing is left out.
  MixerContext context() const {
    return {.hidden_size = 16,
            .num_layers = 3,
            .layer = 1,
            .max_seq_len = 512,
            .rope = true,
            .rope_base = 10000,
            .bias = false,
            .dropout = 0,
            .globals = entry->global_rows(options)};
  }
};

/// All parameters drawn again, far from any special value.
inline void randomise(Module& module, std::uint64_t seed, double deviation = 0.4) {
  Generator generator(seed);
  for (auto& [name, tensor] : module.named_parameters()) fill_normal_(tensor, 0, deviation, generator);
}

inline std::unique_ptr<Mixer> make_mixer(const MixerCase& c, const MixerContext& context, DType dtype = DType::f32,
                                         std::uint64_t seed = 1) {
  Generator generator(seed);
  Initializer init(InitScheme::scaled, context.hidden_size, context.num_layers, generator, {.dtype = dtype});
  std::unique_ptr<Mixer> mixer = c.entry->make(c.options, context, init);
  randomise(*mixer, seed);
  return mixer;
}

inline std::unique_ptr<Mixer> make_mixer(const MixerCase& c, DType dtype = DType::f32, std::uint64_t seed = 1) {
  return make_mixer(c, c.context(), dtype, seed);
}

/// [B,T,16].
inline Tensor random_rows(std::int64_t batch, std::int64_t positions, DType dtype = DType::f32,
                          std::uint64_t seed = 9) {
  Generator generator(seed);
  return randn({batch, positions, 16}, {.dtype = dtype}, generator);
}

}  // namespace sq::test
