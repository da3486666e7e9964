// tests/golden/halo_s/golden_graph.h: neighbor lists against golden ones, which must be equal.
#pragma once

#include "tests/support/golden.h"

namespace golden {

/// graph.safetensors: lists of the original; arguments in its `settings`.
Result check_graph(const std::string& path);
/// graph_causal.safetensors: lists of the causal graph.
Result check_graph_causal(const std::string& path);

}  // namespace golden
