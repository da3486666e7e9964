// subquad bench train, subquad bench decode: whole models on random tokens.
#include "tools/bench_model.h"

#include "autograd/engine.h"
#include "models/estimate.h"
#include "tensor/memory.h"
#include "tensor/random.h"
#include "train/optimizer.h"

#include <cmath>

namespace sq::cli {

void add_model_flags(CLI::App& command, BenchModelOptions& options) {
  command.add_option("--preset", options.preset, "a ready configuration")->capture_default_str();
  command.add_option("--set", options.settings, "key=value over the configuration")->take_all()->expected(1);
  command.add_option("--vocab-size", options.vocab_size, "tokens, where the preset leaves them to the tokenizer")
      ->capture_default_str();
  command.add_option("--batch-size", options.batch_size, "sequences; 0 = the preset's (train), 1 (decode)");
  add_bench_flags(command, options.bench);
}

RunConfig bench_config(const BenchModelOptions& options) {
  RunConfig config = preset_config(options.preset, options.settings);
  if (config.model.vocab_size == 0) config.model.vocab_size = options.vocab_size;
  require_input(config.model.vocab_size >= 1, "--vocab-size", "{} must be at least 1", options.vocab_size);
  require_input(options.batch_size >= 0, "--batch-size", "{} must be at least 1", options.batch_size);
  return config;
}

Tensor random_ids(std::int64_t batch, std::int64_t tokens, std::int64_t vocab_size) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < batch * tokens; ++i)
    ids.push_back(static_cast<std::int64_t>(
        random_below(1, 0, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(vocab_size))));
  return Tensor::from(ids, {batch, tokens});
}

namespace {

void bench_train(const BenchModelOptions& o, std::int64_t context) {
  const RunConfig config = bench_config(o);
  const std::int64_t batch = o.batch_size == 0 ? config.training.batch_size : o.batch_size;
  const std::int64_t tokens = context == 0 ? config.training.context : context;
  LanguageModel model(config.model, o.bench.common.options());
  AdamW optimizer(model, {.weight_decay = config.training.weight_decay});
  const Tensor ids = random_ids(batch, tokens, config.model.vocab_size),
               targets = random_ids(batch, tokens, config.model.vocab_size);
  double loss = 0;
  const auto step = [&] {
    model.clear_gradients();
    const Tensor value = model.loss(ids, targets);
    loss = value.item();
    backward(value);
    const double norm = optimizer.gradient_norm();
    optimizer.step(1e-4, std::min(1.0, 1.0 / (norm + 1e-6)));
  };
  step();
  const double uniform = std::log(static_cast<double>(config.model.vocab_size));
  require(std::isfinite(loss) && std::abs(loss - uniform) < 0.25 * uniform + 0.5, "bench train",
          "the first loss is {}, an untrained model gives about ln V = {}", loss, uniform);
  reset_peak_memory();
  const Timing timing = measure(o.bench, step);
  const ModelEstimate estimate = estimate_model(config.model, tokens);
  // Backward takes twice the products of forward. AdamW reads weight, gradient and two moments and writes three.
  const Work work{.flops = 3.0 * static_cast<double>(batch * estimate.total.forward_flops),
                  .bytes = 7.0 * 4.0 * static_cast<double>(model.parameter_count())};
  Json result = bench_result("train_step", timing, work,
                             {{"preset", o.preset},
                              {"batch", batch},
                              {"context", tokens},
                              {"vocab_size", config.model.vocab_size},
                              {"parameters", model.parameter_count()},
                              {"peak_bytes", memory_statistics().peak}});
  result["tokens_per_s"] = static_cast<double>(batch * tokens) / timing.median * 1e3;
  print_result(o.bench, result);
}

void bench_decode(const BenchModelOptions& o, std::int64_t prompt, std::int64_t tokens) {
  const RunConfig config = bench_config(o);
  const std::int64_t batch = o.batch_size == 0 ? 1 : o.batch_size;
  require_input(prompt >= 1 && tokens >= 1 && prompt + tokens <= config.model.max_tokens(), "bench decode",
                "{} + {} tokens are not possible; this model reads 2 to {}", prompt, tokens, config.model.max_tokens());
  LanguageModel model(config.model, o.bench.common.options());
  model.eval();
  const Tensor ids = random_ids(batch, prompt, config.model.vocab_size);
  const auto state = model.make_state(batch, config.model.max_tokens());
  Tensor logits = model.step(ids, *state);
  require(all_finite(logits), "bench decode", "the model made a NaN or infinity");
  const Tensor next = random_ids(batch, 1, config.model.vocab_size);
  // The prompt is read once, outside the timing; each run continues with the same number of tokens.
  std::unique_ptr<ModelState> running;
  std::vector<double> times;
  const auto start_again = [&] {
    running = model.make_state(batch, config.model.max_tokens());
    model.step(ids, *running);
  };
  for (std::int64_t run = 0; run < o.bench.warmup + o.bench.runs; ++run) {
    start_again();
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t t = 0; t < tokens; ++t) logits = model.step(next, *running);
    if (run >= o.bench.warmup)
      times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  const Timing timing = summarise(times);
  std::int64_t read = 0;  // weights that every token needs: all but the table of embeddings
  for (const auto& [name, tensor] : model.named_parameters())
    if (config.model.tie_embeddings || !name.starts_with("token_emb"))
      read += tensor.numel() * item_size(tensor.dtype());
  const auto steps = static_cast<double>(tokens);
  const Work work{.flops = steps * static_cast<double>(batch) * 2.0 * static_cast<double>(read) / 4.0,
                  .bytes = steps * static_cast<double>(read)};
  Json result = bench_result("decode", timing, work,
                             {{"preset", o.preset},
                              {"batch", batch},
                              {"prompt", prompt},
                              {"tokens", tokens},
                              {"vocab_size", config.model.vocab_size},
                              {"parameters", model.parameter_count()},
                              {"state_bytes", running->bytes()}});
  result["tokens_per_s"] = static_cast<double>(batch * tokens) / timing.median * 1e3;
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
  command->callback([o, command] {
    o->bench.apply(*command);
    require_input(o->context >= 0, "--context", "{} must be at least 1", o->context);
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
  command->callback([o, command] {
    o->bench.apply(*command);
    bench_decode(*o, o->prompt, o->tokens);
  });
}

}  // namespace sq::cli
