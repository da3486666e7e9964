#include "tools/compare/checks.h"

#include "autograd/autocast.h"
#include "autograd/grad_mode.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>
#include <cmath>

namespace sq::compare {
namespace {

std::vector<float> values(const Tensor& tensor) { return tensor.to_vector<float>(); }

/// Largest difference between row `position` of two arrays of rows of `width`.
double row_change(const std::vector<float>& a, const std::vector<float>& b, std::int64_t position, std::int64_t width) {
  double change = 0;
  for (auto i = static_cast<std::size_t>(position * width); i < static_cast<std::size_t>((position + 1) * width); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    change = std::isnan(difference) ? 1e30 : std::max(change, difference);
  }
  return change;
}

}  // namespace

Json check_causality(const Settings& settings, const Contender& contender, const Stop& stop) {
  constexpr std::int64_t kTokens = 96, kStride = 8;
  const auto model = make_model(settings, contender, kTokens, settings.vocab_size);
  const EvalMode evaluation(*model);
  const NoGrad unrecorded;
  const Autocast precision(settings.common.options().dtype);
  const Tensor ids = random_ids(settings, 1, kTokens);
  const std::vector<float> before = values(model->hidden(ids));
  const std::int64_t width = model->config().hidden_size;
  std::int64_t pairs = 0, moved = 0, later = 0, reach = 0;
  double max_change = 0;
  for (std::int64_t t = kStride - 1; t < kTokens; t += kStride) {
    if (stop) throw Interrupted();
    std::vector<std::int64_t> changed = ids.to_vector<std::int64_t>();
    auto& id = changed[static_cast<std::size_t>(t)];
    id = (id + 1) % settings.vocab_size;
    const std::vector<float> after = values(model->hidden(Tensor::from(changed, ids.shape())));
    for (std::int64_t position = 0; position < kTokens; ++position) {
      const double change = row_change(before, after, position, width);
      if (position < t) {
        ++pairs;
        moved += change > 0 ? 1 : 0;
        max_change = std::max(max_change, change);
      } else if (position > t) {
        ++later;
        reach += change > 0 ? 1 : 0;
      }
    }
  }
  return {{"tokens", kTokens},        {"pairs", pairs}, {"moved", moved},
          {"max_change", max_change}, {"reach", reach}, {"later", later}};
}

Json check_steps(const Settings& settings, const Contender& contender, const Stop& stop) {
  constexpr std::int64_t kTokens = 48, kFirst = 20;
  const auto model = make_model(settings, contender, kTokens, settings.vocab_size);
  if (!model->can_step()) return {{"skipped", "results depend on the total length; it cannot decode step by step"}};
  const EvalMode evaluation(*model);
  const NoGrad unrecorded;
  const DType dtype = settings.common.options().dtype;
  if (is_half(dtype)) model->hold_matrices_in(dtype);  // as decoding does
  const Tensor ids = random_ids(settings, settings.batch_size, kTokens);
  const Tensor whole = model->forward(ids);
  const auto state = model->make_state(settings.batch_size, kTokens);
  double difference = 0, largest = 0;
  for (std::int64_t begin = 0, end = kFirst; begin < kTokens; begin = end, ++end) {
    if (stop) throw Interrupted();
    const std::vector<float> stepped = values(model->step(packed(slice(ids, 1, begin, end)), *state));
    const std::vector<float> expected = values(slice(whole, 1, end - 1, end));
    for (std::size_t i = 0; i < stepped.size(); ++i) {
      const double d = std::abs(static_cast<double>(stepped[i]) - static_cast<double>(expected[i]));
      difference = std::isnan(d) ? 1e30 : std::max(difference, d);
      largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    }
  }
  const double error = largest > 0 ? difference / largest : difference;
  return {{"tokens", kTokens}, {"relative_error", error}, {"equal", error <= (is_half(dtype) ? 1e-1 : 1e-3)}};
}

}  // namespace sq::compare
