#include "train/answers.h"

#include "autograd/grad_mode.h"
#include "ops/gather.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "train/data/dataset.h"

namespace sq {
namespace {

/// The asked positions, n of them.
struct Asked {
  Tensor logits;                      // [n,V]
  std::vector<std::int64_t> answers;  // the right ones
};

Asked asked_positions(LanguageModel& model, const Tensor& ids, const Tensor& targets) {
  const std::vector<std::int64_t> wanted = targets.to_vector<std::int64_t>();
  std::vector<std::int64_t> places, answers;
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i] != kIgnoreTarget) {
      places.push_back(static_cast<std::int64_t>(i));
      answers.push_back(wanted[i]);
    }
  require(!answers.empty(), "answers", "nothing is asked in targets {}", targets);
  const auto count = static_cast<std::int64_t>(places.size());
  const Tensor hidden = model.hidden(ids);
  const Tensor rows = reshape(hidden, {hidden.size(0) * hidden.size(1), hidden.size(2)});
  return {model.project(index_select(rows, 0, Tensor::from(places, {count}))), answers};
}

}  // namespace

Tensor answer_loss(LanguageModel& model, const Tensor& ids, const Tensor& targets) {
  const Asked asked = asked_positions(model, ids, targets);
  return cross_entropy(asked.logits, Tensor::from(asked.answers, {asked.logits.size(0)}));
}

std::int64_t count_right_answers(LanguageModel& model, const Tensor& ids, const Tensor& targets) {
  const NoGrad unrecorded;
  const Asked asked = asked_positions(model, ids, targets);
  const std::vector<std::int64_t> guesses = argmax(asked.logits, -1).to_vector<std::int64_t>();
  std::int64_t right = 0;
  for (std::size_t i = 0; i < guesses.size(); ++i) right += guesses[i] == asked.answers[i] ? 1 : 0;
  return right;
}

}  // namespace sq
