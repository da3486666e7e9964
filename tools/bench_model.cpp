// subquad bench train, subquad bench decode: whole models on random tokens.
#include "tools/bench_model.h"

#include "autograd/autocast.h"
#include "autograd/engine.h"
#include "models/estimate.h"
#include "tensor/memory.h"
#include "tensor/profiler.h"
#include "tensor/random.h"

#include <cmath>

namespace sq::cli {

void add_model_flags(CLI::App& command, BenchModelOptions& options) {
  command.add_option("--preset", options.preset, "a ready configuration")->capture_default_str();
  command.add_option("--set", options.settings, "key=value over the configuration")->take_all()->expected(1);
  command.add_option("--vocab-size", options.vocab_size, "tokens, where the preset leaves them to the tokenizer")
      ->capture_default_str();
  command.add_option("--batch-size", options.batch_size, "sequences; 0 = the preset's (train), 1 (decode)");
}

RunConfig bench_config(const BenchModelOptions& options) {
  RunConfig config = preset_config(options.preset, options.settings);
  if (config.model.vocab_size == 0) config.model.vocab_size = options.vocab_size;
  require_input(config.model.vocab_size >= 1, "--vocab-size", "{} must be at least 1", options.vocab_size);
  require_input(options.batch_size >= 0, "--batch-size", "{} must be at least 1", options.batch_size);
  return config;
}

Tensor random_ids(std::int64_t batch, std::int64_t tokens, std::int64_t vocab_size, std::uint64_t stream) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < batch * tokens; ++i)
    ids.push_back(static_cast<std::int64_t>(
        random_below(1, stream, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocab_size))));
  return Tensor::from(ids, {batch, tokens});
}

namespace {

/// The tokens of a sequence in training, checked.
std::int64_t training_context(const RunConfig& config, std::int64_t asked) {
  require_input(asked >= 0, "--context", "{} is not possible; use 1 or more", asked);
  const std::int64_t context = asked == 0 ? config.training.context : asked;
  require_input(context <= config.model.max_tokens(), "--context", "{} is not possible; this model reads up to {}",
                context, config.model.max_tokens());
  return context;
}

}  // namespace

TrainingBench::TrainingBench(const BenchModelOptions& o, std::int64_t tokens)
    : TrainingBench(o, tokens, bench_config(o)) {}

TrainingBench::TrainingBench(const BenchModelOptions& o, std::int64_t tokens, const RunConfig& config)
    : batch(o.batch_size == 0 ? config.training.batch_size : o.batch_size),
      context(training_context(config, tokens)),
      model(config.model),
      dtype_(o.bench.common.options().dtype),
      optimizer_(model, {.weight_decay = config.training.weight_decay}),
      ids_(random_ids(batch, context, config.model.vocab_size)),
      targets_(random_ids(batch, context, config.model.vocab_size, 1)) {
  step();
  const double uniform = std::log(static_cast<double>(config.model.vocab_size));
  require(std::isfinite(loss_) && std::abs(loss_ - uniform) < 0.25 * uniform + 0.5, "bench train",
          "the first loss is {}, an untrained model gives about ln V = {}", loss_, uniform);
}

void TrainingBench::step() {
  Tensor loss;
  {
    const ProfileSpan phase(SpanKind::phase, "forward");
    const Autocast precision(dtype_);
    loss = model.loss(ids_, targets_);
  }
  {
    const ProfileSpan phase(SpanKind::phase, "backward");
    backward(loss);
  }
  const ProfileSpan phase(SpanKind::phase, "update");
  optimizer_.step(1e-4, 1.0);
  loss_ = loss.item();
  model.clear_gradients();
}

DecodingBench::DecodingBench(std::string_view name, const BenchModelOptions& o, std::int64_t prompt,
                             std::int64_t tokens)
    : batch(o.batch_size == 0 ? 1 : o.batch_size), model(bench_config(o).model) {
  const DType dtype = o.bench.common.options().dtype;
  if (is_half(dtype)) model.hold_matrices_in(dtype);
  require_input(prompt >= 1 && tokens >= 1 && prompt + tokens <= model.max_tokens(), name,
                "{} + {} tokens are not possible; this model reads 2 to {}", prompt, tokens, model.max_tokens());
  model.eval();
  prompt_ = random_ids(batch, prompt, model.config().vocab_size);
  next_ = random_ids(batch, 1, model.config().vocab_size);
  state = model.make_state(batch, model.max_tokens());
  require(all_finite(model.step(prompt_, *state)), name, "the model made a NaN or infinity");
}

void DecodingBench::start_again() {
  state = model.make_state(batch, model.max_tokens());
  model.step(prompt_, *state);
}

void DecodingBench::step() {
  const ProfileSpan phase(SpanKind::phase, "decode");
  model.step(next_, *state);
}

Work DecodingBench::work() const {
  Work work{.flops = 0, .bytes = 0};
  for (const auto& [name, tensor] : model.named_parameters()) {
    if (!model.config().tie_embeddings && name.starts_with("token_emb")) continue;
    work.flops += 2 * static_cast<double>(batch * tensor.numel());
    work.bytes += static_cast<double>(tensor.numel() * item_size(tensor.dtype()));
  }
  return work;
}

namespace {

void bench_train(const BenchModelOptions& o, std::int64_t context) {
  TrainingBench training(o, context);
  reset_peak_memory(default_device());
  const Timing timing = measure(o.bench, [&] { training.step(); });
  const LanguageModel& model = training.model;
  const ModelEstimate estimate = estimate_model(model.config(), training.context);
  // Backward takes twice the products of forward. AdamW reads weight, gradient and two moments and writes three.
  const Work work{.flops = 3.0 * static_cast<double>(training.batch * estimate.total.forward_flops),
                  .bytes = 7.0 * 4.0 * static_cast<double>(model.parameter_count())};
  Json result = bench_result(o.bench, "train_step", timing, work,
                             {{"preset", o.preset},
                              {"batch", training.batch},
                              {"context", training.context},
                              {"vocab_size", model.config().vocab_size},
                              {"parameters", model.parameter_count()},
                              {"peak_bytes", memory_statistics(default_device()).peak}});
  result["tokens_per_s"] = static_cast<double>(training.batch * training.context) / timing.median * 1e3;
  print_result(o.bench, result);
}

void bench_decode(const BenchModelOptions& o, std::int64_t prompt, std::int64_t tokens) {
  DecodingBench decoding("bench decode", o, prompt, tokens);
  // The prompt is read once, outside the timing; each run continues with the same number of tokens.
  std::vector<double> times;
  for (std::int64_t run = 0; run < o.bench.warmup + o.bench.runs; ++run) {
    decoding.start_again();
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t t = 0; t < tokens; ++t) decoding.step();
    if (run >= o.bench.warmup)
      times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  const Timing timing = summarise(times);
  const LanguageModel& model = decoding.model;
  const auto steps = static_cast<double>(tokens), rows = static_cast<double>(decoding.batch);
  const Work token = decoding.work(), work{.flops = steps * token.flops, .bytes = steps * token.bytes};
  Json result = bench_result(o.bench, "decode", timing, work,
                             {{"preset", o.preset},
                              {"batch", decoding.batch},
                              {"prompt", prompt},
                              {"tokens", tokens},
                              {"vocab_size", model.config().vocab_size},
                              {"parameters", model.parameter_count()},
                              {"dtype", o.bench.common.dtype},
                              {"state_bytes", decoding.state->bytes()}});
  result["tokens_per_s"] = steps * rows / timing.median * 1e3;
  print_result(o.bench, result);
}

}  // namespace

void add_bench_train(CLI::App& bench) {
  struct Options : BenchModelOptions {
    std::int64_t context = 0;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("train", "a training step: forward, backward, clipping, AdamW");
  command->add_option("--context", o->context, "tokens of a sequence; 0 = the preset's");
  add_model_flags(*command, *o);
  add_bench_flags(*command, o->bench);
  command->callback([o, command] {
    o->bench.apply(*command);
    bench_train(*o, o->context);
  });
}

void add_bench_decode(CLI::App& bench) {
  struct Options : BenchModelOptions {
    std::int64_t prompt = 1, tokens = 64;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("decode", "writing tokens one by one after a prompt");
  command->add_option("--prompt", o->prompt, "tokens of the prompt, read outside the timing")->capture_default_str();
  command->add_option("--tokens", o->tokens, "tokens written in a run")->capture_default_str();
  add_model_flags(*command, *o);
  add_bench_flags(*command, o->bench);
  command->callback([o, command] {
    o->bench.apply(*command);
    bench_decode(*o, o->prompt, o->tokens);
  });
}

}  // namespace sq::cli
