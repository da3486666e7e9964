// subquad train: train a model, or go on training one.
#include "nn/json.h"
#include "tools/cli.h"
#include "train/progress.h"
#include "train/run.h"

#include <csignal>

namespace sq::cli {
namespace {

struct Options {
  Common common;
  std::string preset, config, out, task;
  std::vector<std::string> settings, task_settings, data;
  std::int64_t steps = 0, batch_size = 0, context = 0, eval_every = 0, save_every = 0;
  double learning_rate = 0;
  bool resume = false, force = false;
};

std::atomic<bool> stop_requested{false};

/// The first Ctrl-C asks for an orderly end; the next one ends the program at once.
void request_stop(int signal) {
  stop_requested.store(true);
  std::signal(signal, SIG_DFL);
}

/// --task and --task-set as overrides. The length of a task's samples is the context.
void add_task(const Options& o, const CLI::App& command, std::vector<std::string>& result) {
  if (!o.task.empty()) {
    require_input(o.data.empty(), "--task", "a task makes its own data; leave out --data");
    result.push_back(fmt::format("training.data.task={}", find_task(o.task, "--task").name));
  }
  require_input(o.task_settings.empty() || !o.task.empty(), "--task-set", "it needs --task NAME beside it");
  for (const std::string& setting : o.task_settings) {
    constexpr std::string_view kLength = "length=";
    const bool length = setting.starts_with(kLength);
    require_input(!length || command.count("--context") == 0, "--task-set",
                  "length is what --context says; give one of them");
    result.push_back(length ? "training.context=" + setting.substr(kLength.size()) : "training.data.task." + setting);
  }
}

/// Flags that stand for keys of the configuration, as overrides in the order of --set.
std::vector<std::string> overrides(const Options& o, const CLI::App& command) {
  std::vector<std::string> result = o.settings;
  add_task(o, command, result);
  const auto add = [&](const char* flag, const char* key, const auto& value) {
    if (command.count(flag) > 0) result.push_back(fmt::format("training.{}={}", key, value));
  };
  add("--steps", "steps", o.steps);
  add("--batch-size", "batch_size", o.batch_size);
  add("--context", "context", o.context);
  add("--lr", "learning_rate", o.learning_rate);
  add("--eval-every", "eval_every", o.eval_every);
  add("--save-every", "save_every", o.save_every);
  add("--seed", "seed", o.common.seed);
  add("--dtype", "dtype", o.common.dtype);
  return result;
}

RunConfig make_config(const Options& o, const CLI::App& command, std::vector<std::filesystem::path>& files) {
  require_input(o.preset.empty() || o.config.empty(), "train", "give --preset or --config, not both");
  const std::vector<std::string> changes = overrides(o, command);
  if (!o.preset.empty()) return preset_config(o.preset, changes);
  if (!o.config.empty()) return load_run_config(o.config, changes);
  require_input(o.resume, "train", "what to train is missing: give --preset NAME or --config FILE");
  auto [config, earlier_files] = read_run(o.out);
  if (files.empty()) files = earlier_files;
  Json document = config_to_json(config);
  for (const std::string& change : changes) apply_run_override(document, change);
  return config_from_json<RunConfig>(document, "");
}

void report(const Options& o, const RunResult& result, bool has_tokenizer) {
  const TrainingResult& t = result.training;
  if (o.common.json) {
    Json line{{"out", o.out},
              {"step", t.step},
              {"loss", t.smoothed_loss},
              {"tokens", t.tokens},
              {"seconds", t.seconds},
              {"peak_memory_bytes", t.peak_memory_bytes},
              {"interrupted", t.interrupted}};
    if (result.validation) {
      line["val_loss"] = result.validation->loss;
      line["val_perplexity"] = perplexity(result.validation->loss);
      if (result.validation->accuracy) line["val_accuracy"] = *result.validation->accuracy;
    }
    print_line(line);
  }
  if (t.interrupted) {
    say(o.common, "stopped at step {}; everything is saved, go on with: subquad train --out {} --resume", t.step,
        o.out);
    return;
  }
  if (result.validation) say(o.common, "validation: {}", describe(*result.validation, result.protocol));
  say(o.common, "{} steps, {} tokens in {:.1f} s; the model is in {}; {}", t.step, t.tokens, t.seconds, o.out,
      has_tokenizer ? fmt::format("try: subquad generate --model {} --prompt TEXT", o.out)
                    : fmt::format("it reads ids and no text: subquad logits --model {} --ids 1,2,3 --out FILE", o.out));
}

void run(const Options& o, const CLI::App& command) {
  require_input(!(o.resume && o.force), "train",
                "--resume goes on with a run and --force replaces it; give one of them");
  RunOptions options;
  options.folder = o.out;
  options.files.assign(o.data.begin(), o.data.end());
  options.start = o.resume ? RunStart::resume : o.force ? RunStart::force : RunStart::fresh;
  const RunConfig config = make_config(o, command, options.files);
  Progress progress(progress_on_stderr(o.common.quiet));
  options.on_step = [&](const StepReport& step) { progress.step(step); };
  options.notice = [&](const std::string& text) { progress.notice(text); };
  options.stop = &stop_requested;
  TrainingRun training(config, std::move(options));
  say(o.common, "{} parameters, {} layers, vocabulary {}; {} steps of {} x {} tokens{}",
      training.model().parameter_count(), training.config().model.num_layers, training.config().model.vocab_size,
      config.training.steps, config.training.batch_size * config.training.accumulation, config.training.context,
      training.step() > 0 ? fmt::format("; going on after step {}", training.step()) : "");
  for (const std::string& remark : training.data().remarks) say(o.common, "note: {}", remark);
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
  const RunResult result = training.run();
  progress.finish();
  report(o, result, training.data().tokenizer != nullptr);
}

}  // namespace

void add_train(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("train", "train a model on text files, on the text inside this program, or on a made-up task");
  command->add_option("--preset", o->preset, "a ready configuration; subquad info lists them");
  command->add_option("--config", o->config, "a configuration file: {\"model\": {...}, \"training\": {...}}");
  command->add_option("--set", o->settings, "key=value over the configuration, e.g. mixer.local_window=32")
      ->take_all()
      ->expected(1);
  command->add_option("--data", o->data, "text or .jsonl files; none: the embedded corpus")->take_all();
  command->add_option("--task", o->task,
                      "a made-up task instead of --data: copy, needle, mqar, …; subquad info lists them");
  command
      ->add_option("--task-set", o->task_settings,
                   "key=value, an option of the task, or length=N, ids of a sample (as --context)")
      ->take_all()
      ->expected(1);
  command->add_option("--out", o->out, "folder for model, checkpoints and metrics.jsonl")->required();
  command->add_option("--steps", o->steps, "updates in all");
  command->add_option("--batch-size", o->batch_size, "sequences per update (times training.accumulation)");
  command->add_option("--context", o->context, "tokens of a sequence");
  command->add_option("--lr", o->learning_rate, "peak learning rate");
  command->add_option("--eval-every", o->eval_every, "steps between validations; 0 = at the end only");
  command->add_option("--save-every", o->save_every, "steps between checkpoints; 0 = at the end only");
  command->add_flag("--resume", o->resume, "go on with the run in --out");
  command->add_flag("--force", o->force, "replace the run in --out");
  add_common(*command, o->common);
  command->callback([o, command] {
    o->common.apply(*command);
    run(*o, *command);
  });
}

}  // namespace sq::cli
