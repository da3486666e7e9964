// subquad summary: what a model consists of and costs, from its configuration alone.
#include "models/estimate.h"
#include "models/model_folder.h"
#include "tools/cli.h"
#include "train/training_config.h"

namespace sq::cli {
namespace {

struct Options {
  Common common;
  std::string preset, config, model;
  std::vector<std::string> settings;
  std::int64_t tokens = 0, vocab_size = 256;
};

ModelConfig make_config(const Options& o) {
  const int given = !o.preset.empty() + !o.config.empty() + !o.model.empty();
  require_input(given == 1, "summary", "give one of --preset NAME, --config FILE and --model DIR");
  if (!o.preset.empty()) return preset_config(o.preset, o.settings).model;
  if (!o.config.empty()) return load_run_config(o.config, o.settings).model;
  require_input(o.settings.empty(), "summary", "--set changes presets and configuration files, not saved models");
  return load_model_config((std::filesystem::path(o.model) / kConfigFile).string());
}

}  // namespace

void add_summary(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("summary", "show parameters, operations and memory of a model");
  command->add_option("--preset", o->preset, "a ready configuration");
  command->add_option("--config", o->config, "a configuration file");
  command->add_option("--model", o->model, "a model folder");
  command->add_option("--set", o->settings, "key=value over the configuration")->take_all()->expected(1);
  command->add_option("--tokens", o->tokens, "length to count for; 0 = what the model reads, 1024 at most")
      ->capture_default_str();
  command->add_option("--vocab-size", o->vocab_size, "tokens, where the configuration leaves them to the tokenizer")
      ->capture_default_str();
  add_common(*command, o->common);
  command->callback([o, command] {
    o->common.apply(*command);
    ModelConfig config = make_config(*o);
    if (config.vocab_size == 0) config.vocab_size = o->vocab_size;
    const ModelEstimate estimate =
        estimate_model(config, o->tokens == 0 ? std::min<std::int64_t>(config.max_tokens(), 1024) : o->tokens);
    if (o->common.json)
      print_line(summary_json(estimate));
    else
      fmt::print("{}", summary_table(config, estimate));
  });
}

}  // namespace sq::cli
