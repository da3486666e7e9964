// tools/compare/checks.h: whether a contender does what a language model must, shown on its own random parameters.
#pragma once

#include "tools/compare/measure.h"

namespace sq::compare {

/// Changes the token at t, for twelve t of 96, and looks at the outputs at positions before t: {tokens, pairs, moved,
/// max_change, reach, later}. `moved` of `pairs` (t, earlier position) changed by any bit; a causal model has 0.
/// `reach` of `later` (t, later position) reacted.
Json check_causality(const Settings& settings, const Contender& contender, const Stop& stop);

/// Reads 48 tokens whole, and in steps of 20, 1, 1, …: {tokens, relative_error, equal}, the largest difference of
/// logits over the largest logit, and whether it is at most 1e-3 (1e-1 for 16-bit matrices). {"skipped": reason} where
/// a contender cannot decode.
Json check_steps(const Settings& settings, const Contender& contender, const Stop& stop);

}  // namespace sq::compare
