// train/evaluate_prefixes.h: the loss that generation meets.
#pragma once

#include "models/language_model.h"
#include "train/data/token_array.h"
#include "train/evaluate.h"

namespace sq {

/// Text is generated at the end of a sequence: the model reads a prefix and its last position predicts the next token.
/// For most models that is the loss of whole windows. Where a position's result depends on the total length (the
/// faithful HALO-S graph) it is not, and this is the honest figure: the mean loss of the last position over `count`
/// random prefixes of 1 to `window` tokens, each read alone. The prefixes depend on (seed, window, text) only. Throws
/// UsageError when the text is shorter than window+1 tokens or an argument is below 1.
Evaluation evaluate_prefixes(LanguageModel& model, const TokenSpan& tokens, std::int64_t window, std::int64_t count,
                             std::uint64_t seed);

}  // namespace sq
