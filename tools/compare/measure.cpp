#include "tools/compare/measure.h"

#include "autograd/autocast.h"
#include "autograd/engine.h"
#include "autograd/grad_mode.h"
#include "models/estimate.h"
#include "nn/mixers/registry.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "tools/bench.h"
#include "train/optimizer.h"

namespace sq::compare {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

DType product_dtype(const Settings& settings) { return settings.common.options().dtype; }

/// Most bytes of tensors since it was made, beyond those that were there then.
class PeakGrowth {
 public:
  PeakGrowth() : before_(memory_statistics(default_device()).in_use) { reset_peak_memory(default_device()); }
  std::size_t bytes() const { return memory_statistics(default_device()).peak - before_; }

 private:
  std::size_t before_;
};

/// Runs `work` once, then again with the clock on, `runs` times or until settings.seconds are over.
template <class Function>
Json repeat(const Settings& settings, std::int64_t runs, const Stop& stop, Function&& work) {
  work();
  cli::wait_for_device();
  std::vector<double> times;
  const Clock::time_point start = Clock::now();
  const PeakGrowth growth;
  while (static_cast<std::int64_t>(times.size()) < runs) {
    if (stop) throw Interrupted();
    const Clock::time_point begin = Clock::now();
    work();
    cli::wait_for_device();
    times.push_back(milliseconds_since(begin));
    if (milliseconds_since(start) > 1e3 * settings.seconds) break;
  }
  const std::size_t done = times.size();
  const cli::Timing timing = cli::summarise(std::move(times));
  return {{"ms", timing.median},
          {"min_ms", timing.min},
          {"max_ms", timing.max},
          {"runs", done},
          {"peak_bytes", growth.bytes()}};
}

}  // namespace

std::unique_ptr<LanguageModel> make_model(const Settings& settings, const Contender& contender, std::int64_t tokens,
                                          std::int64_t vocab_size) {
  default_generator() = Generator(static_cast<std::uint64_t>(settings.common.seed));
  return std::make_unique<LanguageModel>(model_config(settings, contender, tokens, vocab_size));
}

Tensor random_ids(const Settings& settings, std::int64_t rows, std::int64_t tokens) {
  const auto seed = static_cast<std::uint64_t>(settings.common.seed);
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < rows * tokens; ++i)
    ids.push_back(static_cast<std::int64_t>(
        random_below(seed, 1, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(settings.vocab_size))));
  return Tensor::from(ids, {rows, tokens});
}

Json measure_forward(const Settings& settings, const Contender& contender, std::int64_t tokens, const Stop& stop) {
  const auto model = make_model(settings, contender, tokens, settings.vocab_size);
  model->eval();
  const Tensor ids = random_ids(settings, settings.batch_size, tokens);
  const NoGrad unrecorded;
  const Autocast precision(product_dtype(settings));
  bool checked = false;
  Json result = repeat(settings, settings.runs, stop, [&] {
    const Tensor logits = model->forward(ids);
    if (!std::exchange(checked, true))
      require(all_finite(logits), contender.label, "the model makes a NaN or infinity of {} random tokens", tokens);
  });
  const ModelEstimate estimate = estimate_model(model->config(), tokens);
  const auto rows = static_cast<double>(settings.batch_size);
  double mixer_flops = 0;
  for (std::int64_t layer = 0; layer < model->config().num_layers; ++layer) {
    const MixerConfig& mixer = model->config().mixer_of(layer);
    mixer_flops += find_mixer(mixer.type).cost(mixer.options, model->config().context(layer), tokens).forward_flops;
  }
  result["flops"] = rows * estimate.total.forward_flops;
  result["mixer_flops"] = rows * mixer_flops;
  result["state_bytes"] = settings.batch_size * estimate.total.state_bytes;
  return result;
}

Json measure_step(const Settings& settings, const Contender& contender, std::int64_t tokens, const Stop& stop) {
  const auto model = make_model(settings, contender, tokens, settings.vocab_size);
  const Tensor ids = random_ids(settings, settings.batch_size, tokens);
  AdamW optimizer(*model, {});
  double loss_value = 0;
  Json result = repeat(settings, settings.runs, stop, [&] {
    Tensor loss;
    {
      const Autocast precision(product_dtype(settings));
      loss = model->loss(ids, ids);
    }
    backward(loss);
    optimizer.step(1e-4, 1.0);
    loss_value = loss.item();
    model->clear_gradients();
  });
  require(std::isfinite(loss_value), contender.label, "the loss of a training step on {} tokens is not finite", tokens);
  return result;
}

Json measure_decode(const Settings& settings, const Contender& contender, std::int64_t tokens, const Stop& stop) {
  const std::int64_t capacity = tokens + settings.decode_tokens + 1;
  const auto model = make_model(settings, contender, capacity, settings.vocab_size);
  if (!model->can_step()) return {{"skipped", "results depend on the total length; it cannot decode step by step"}};
  if (is_half(product_dtype(settings))) model->hold_matrices_in(product_dtype(settings));
  model->eval();
  const auto state = model->make_state(settings.batch_size, capacity);
  const Tensor next = random_ids(settings, settings.batch_size, 1);
  const Clock::time_point start = Clock::now();
  require(all_finite(model->step(random_ids(settings, settings.batch_size, tokens), *state)), contender.label,
          "the model makes a NaN or infinity of {} random tokens", tokens);
  const double prompt_ms = milliseconds_since(start);
  if (stop) throw Interrupted();
  Json result = repeat(settings, settings.decode_tokens, stop, [&] { model->step(next, *state); });
  result["prompt_ms"] = prompt_ms;
  result["state_bytes"] = state->bytes();
  return result;
}

}  // namespace sq::compare
