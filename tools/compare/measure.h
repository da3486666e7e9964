// tools/compare/measure.h: time and memory of one contender at one length.
#pragma once

#include "models/language_model.h"
#include "tools/compare/settings.h"

#include <atomic>
#include <memory>

namespace sq::compare {

/// Becomes true when the user wants to stop: a measurement under way then ends with Interrupted.
using Stop = std::atomic<bool>;
struct Interrupted {};

/// A contender's model with parameters drawn from the seed, for sequences of `tokens` tokens.
std::unique_ptr<LanguageModel> make_model(const Settings& settings, const Contender& contender, std::int64_t tokens,
                                          std::int64_t vocab_size);
/// i64 [rows,tokens], uniform over the vocabulary, the same for every contender.
Tensor random_ids(const Settings& settings, std::int64_t rows, std::int64_t tokens);

// Each returns an object with
//   ms, min_ms, max_ms   median, smallest and largest of `runs` runs after one that is not counted
//   runs                 as asked, or as many as fitted into settings.seconds, but at least one
//   peak_bytes           most bytes of tensors at once beyond those that were there before: parameters, optimizer,
//   state
// Throw Interrupted, or Error when the mixer fails.

/// Logits of [batch_size,tokens] random ids, unrecorded. Adds flops (all of the model), mixer_flops, state_bytes (as
/// the mixer's cost() announces; for the whole batch).
Json measure_forward(const Settings& settings, const Contender& contender, std::int64_t tokens, const Stop& stop);

/// Forward, backward, clipping and AdamW on such a batch.
Json measure_step(const Settings& settings, const Contender& contender, std::int64_t tokens, const Stop& stop);

/// One more token in every row after `tokens`; times are per token. Adds state_bytes as held, and prompt_ms, the time
/// of reading the prompt. A contender that cannot decode gives {"skipped": reason}.
Json measure_decode(const Settings& settings, const Contender& contender, std::int64_t tokens, const Stop& stop);

}  // namespace sq::compare
