#include "train/evaluate_prefixes.h"

#include "autograd/grad_mode.h"
#include "ops/view.h"
#include "tensor/random.h"

namespace sq {

Evaluation evaluate_prefixes(LanguageModel& model, const TokenSpan& tokens, std::int64_t window, std::int64_t count,
                             std::uint64_t seed) {
  require_input(window >= 1 && count >= 1, "evaluate", "{} prefixes of up to {} tokens are not possible", count,
                window);
  require_input(tokens.size() > window, "evaluate", "the text has {} tokens; prefixes of up to {} need {}",
                tokens.size(), window, window + 1);
  const NoGrad unrecorded;
  const EvalMode evaluation(model);
  double sum = 0;
  for (std::int64_t n = 0; n < count; ++n) {
    const auto index = static_cast<std::uint64_t>(n);
    const auto length = 1 + static_cast<std::int64_t>(random_below(seed, 0, index, static_cast<std::uint64_t>(window)));
    const auto start =
        static_cast<std::int64_t>(random_below(seed, 1, index, static_cast<std::uint64_t>(tokens.size() - length)));
    std::vector<std::int64_t> ids(static_cast<std::size_t>(length + 1));
    tokens.copy(start, ids);
    const Tensor target = Tensor::from<std::int64_t>({ids.back()}, {1, 1});
    ids.pop_back();
    const Tensor last = slice(model.hidden(Tensor::from(ids, {1, length})), 1, length - 1, length);
    sum += cross_entropy(model.project(last), target).item();
  }
  return {.loss = sum / static_cast<double>(count), .targets = count};
}

}  // namespace sq
