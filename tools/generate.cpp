// subquad generate: continue a prompt.
#include "models/model_folder.h"
#include "tools/cli.h"
#include "train/generate_text.h"
#include "train/tokenizers/tokenizer.h"

#include <chrono>

namespace sq::cli {
namespace {

struct Options {
  Common common;
  std::string model;
  std::vector<std::string> prompts;
  TextOptions text;
  std::string when_full = "slide";
};

void run(const Options& o) {
  const std::filesystem::path folder = o.model;
  require_input(std::filesystem::exists(folder / kTokenizerFile) || !std::filesystem::exists(folder / kConfigFile),
                "generate", "'{}' has no {}: the model reads ids and no text; see subquad logits --ids", o.model,
                kTokenizerFile);
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(folder / kTokenizerFile);
  const std::unique_ptr<LanguageModel> model = load_model(o.model, o.common.options());
  require_tokenizer_fits(*tokenizer, model->config().vocab_size, o.model);
  TextOptions options = o.text;
  options.generate.seed = static_cast<std::uint64_t>(o.common.seed);
  options.generate.when_full = o.when_full == "stop" ? WhenFull::stop : WhenFull::slide;

  // One prompt is shown while it grows; several are printed one after the other at the end.
  const bool live = !o.common.json && o.prompts.size() == 1;
  bool begun = false;
  const auto start = std::chrono::steady_clock::now();
  const GeneratedTexts result =
      generate_text(*model, *tokenizer, o.prompts, options, [&](std::size_t, std::string_view piece) {
        if (!live) return;
        fmt::print("{}{}", std::exchange(begun, true) ? "" : o.prompts[0], piece);
        std::fflush(stdout);
      });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::int64_t tokens = 0;
  for (const GeneratedText& row : result.rows) tokens += row.tokens;
  const double speed = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;

  for (std::size_t b = 0; b < result.rows.size(); ++b) {
    const GeneratedText& row = result.rows[b];
    if (o.common.json)
      print_line({{"text", o.prompts[b] + row.continuation},
                  {"prompt", o.prompts[b]},
                  {"continuation", row.continuation},
                  {"tokens", row.tokens},
                  {"tokens_per_s", speed}});
    else if (live)
      fmt::print("{}\n", begun ? "" : o.prompts[b]);
    else
      fmt::print("{}{}\n", o.prompts[b], row.continuation);
  }
  if (result.slides > 0)
    say(o.common, "the context of {} tokens was full {} times; its last half was kept each time", model->max_tokens(),
        result.slides);
  say(o.common, "{} tokens, {:.1f} tokens/s", tokens, speed);
}

}  // namespace

void add_generate(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("generate", "continue a prompt with a trained model");
  GenerateOptions& g = o->text.generate;
  command->add_option("--model", o->model, "model folder")->required();
  command->add_option("--prompt", o->prompts, "text to continue; give it several times for several rows")
      ->required()
      ->take_all()
      ->expected(1);
  command->add_option("--max-new-tokens", g.max_new_tokens, "tokens to write")->capture_default_str();
  command->add_option("--temperature", g.sampling.temperature, "0 takes the most likely token, 1 the model's own odds")
      ->capture_default_str();
  command->add_option("--top-k", g.sampling.top_k, "draw among the k most likely; 0 = off")->capture_default_str();
  command->add_option("--top-p", g.sampling.top_p, "draw among the most likely that make up p; 1 = off")
      ->capture_default_str();
  command->add_option("--stop", o->text.stop, "end before this text; may be given several times")
      ->take_all()
      ->expected(1);
  command->add_option("--when-full", o->when_full, "when the context is full: slide keeps its last half, stop ends")
      ->check(CLI::IsMember({"slide", "stop"}))
      ->capture_default_str();
  add_common(*command, o->common);
  command->callback([o, command] {
    o->common.apply(*command);
    run(*o);
  });
}

}  // namespace sq::cli
