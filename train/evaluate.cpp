#include "train/evaluate.h"

#include "autograd/grad_mode.h"
#include "tensor/random.h"
#include "train/data/batch.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sq {
namespace {

/// Puts this thread's generator back as it was.
class KeepGenerator {
 public:
  KeepGenerator() = default;
  ~KeepGenerator() { default_generator() = before_; }
  KeepGenerator(const KeepGenerator&) = delete;
  KeepGenerator& operator=(const KeepGenerator&) = delete;

 private:
  Generator before_ = default_generator();
};

}  // namespace

std::optional<Evaluation> evaluate(Module& model, const LossFunction& loss, const Dataset& data,
                                   const EvaluateOptions& options) {
  require_input(options.batch_size >= 1, "evaluate", "a batch size of {} is not possible; it must be at least 1",
                options.batch_size);
  const EvalMode eval_mode(model);
  const NoGrad no_grad;
  const KeepGenerator keep_generator;
  double sum = 0, weight = 0;
  std::int64_t targets = 0, right = 0;
  Batch batch;
  for (std::int64_t begin = 0; begin < data.size(); begin += options.batch_size) {
    if (options.stop && options.stop->load(std::memory_order_relaxed)) return {};
    batch.resize(std::min(options.batch_size, data.size() - begin), data.length());
    for (std::int64_t row = 0; row < batch.rows; ++row) data.read(begin + row, batch.row(row));
    const auto counted =
        static_cast<std::int64_t>(batch.y.size()) - std::count(batch.y.begin(), batch.y.end(), kIgnoreTarget);
    if (counted == 0) continue;
    const double share = options.mean_of_batches ? 1 : static_cast<double>(counted);
    const Tensor ids = batch.inputs(), wanted = batch.targets();
    sum += share * loss(ids, wanted).item();
    if (options.right_answers) right += options.right_answers(ids, wanted);
    weight += share;
    targets += counted;
  }
  require_input(targets > 0, "evaluate", "the data have no target that counts");
  Evaluation result{.loss = sum / weight, .targets = targets};
  if (options.right_answers) result.accuracy = static_cast<double>(right) / static_cast<double>(targets);
  return result;
}

double perplexity(double loss) { return std::exp(loss); }

double bits_per_byte(const Evaluation& evaluation, std::int64_t bytes) {
  require_input(bytes > 0, "evaluate", "bits per byte need the size of the text, {} was given", bytes);
  return evaluation.loss * static_cast<double>(evaluation.targets) / (std::numbers::ln2 * static_cast<double>(bytes));
}

std::string describe(const Evaluation& evaluation, const EvaluationProtocol& protocol) {
  std::string text = fmt::format("loss {:.4f} nats per {}, perplexity {:.4g}", evaluation.loss, protocol.unit,
                                 perplexity(evaluation.loss));
  if (evaluation.accuracy) text += fmt::format(", {:.2f} % right", 100 * *evaluation.accuracy);
  if (protocol.bytes > 0) text += fmt::format(", {:.4f} bits per byte", bits_per_byte(evaluation, protocol.bytes));
  return text + fmt::format(" ({} {}s, window {}, stride {})", evaluation.targets, protocol.unit, protocol.window,
                            protocol.stride);
}

}  // namespace sq
