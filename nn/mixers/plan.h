// nn/mixers/plan.h: what can be said about a mixer before any tensor exists.
#pragma once

#include "tensor/shape.h"

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace sq {

/// Rows that a mixer wants beside the tokens, started from learned vectors `global_memory` [count,C].
/// chunk = 0: `count` rows before the first token. chunk > 0: `count` rows before every `chunk` tokens.
struct GlobalRows {
  std::int64_t count = 0;
  std::int64_t chunk = 0;

  /// Rows of a sequence of T tokens, these included.
  std::int64_t total(std::int64_t tokens) const {
    return tokens + count * (chunk > 0 ? (tokens + chunk - 1) / chunk : 1);
  }
  bool operator==(const GlobalRows&) const = default;
};

/// What a mixer is told about the model around it.
struct MixerContext {
  std::int64_t hidden_size = 0;  // C
  std::int64_t num_layers = 1;
  std::int64_t layer = 0;        // from 0
  std::int64_t max_seq_len = 0;  // rows of the longest sequence, learned globals included
  bool rope = true;              // rotary positions; otherwise the input carries its positions
  double rope_base = 10000;
  bool bias = false;  // biases in the linear layers
  double dropout = 0;
  GlobalRows globals = {};  // what the model carries, for this mixer or for another one of a hybrid
};

/// Parameters in the order in which they are stored, names relative to the layer ("attn.q_proj.weight").
using NamedShapes = std::vector<std::pair<std::string, Shape>>;

/// The product as a double.
double product(std::initializer_list<std::int64_t> factors);

/// Sum of the extents' products.
std::int64_t count_elements(const NamedShapes& shapes);

/// What a sequence of T tokens costs one row of a batch.
struct Cost {
  std::int64_t parameters = 0;
  double forward_flops = 0;      // a multiply-add counts two; matrix products and attention only
  std::int64_t state_bytes = 0;  // of a decoding state that holds T tokens (f32)
};

}  // namespace sq
