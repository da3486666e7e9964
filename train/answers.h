// train/answers.h: a language model at the positions where something is asked, and only there. Where few positions
// count, as in most made-up tasks, the product with the output projection shrinks to them.
#pragma once

#include "models/language_model.h"

namespace sq {

/// The loss of LanguageModel::loss, ids and targets i64[B,T] with kIgnoreTarget where nothing is asked. Throws Error
/// when nothing is asked at all.
Tensor answer_loss(LanguageModel& model, const Tensor& ids, const Tensor& targets);

/// How many of the asked positions get the right answer, which is the likeliest token. Unrecorded.
std::int64_t count_right_answers(LanguageModel& model, const Tensor& ids, const Tensor& targets);

}  // namespace sq
