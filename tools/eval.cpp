// subquad eval: the loss of a model on a text.
#include "models/model_folder.h"
#include "tools/cli.h"
#include "train/data/corpus.h"
#include "train/data/windows.h"
#include "train/evaluate.h"
#include "train/evaluate_prefixes.h"
#include "train/training_data.h"

namespace sq::cli {
namespace {

struct Options {
  Common common;
  std::string model;
  std::vector<std::string> data;
  std::int64_t context = 0, stride = 0, batch_size = 8, prefixes = 0;
};

void run(const Options& o) {
  const auto model = load_model(o.model, o.common.options());
  const auto tokenizer = load_tokenizer(std::filesystem::path(o.model) / kTokenizerFile);
  require_tokenizer_fits(*tokenizer, model->config().vocab_size, o.model);
  const std::int64_t window = o.context == 0 ? std::min<std::int64_t>(model->max_tokens(), 1024) : o.context;
  require_input(window >= 1 && window <= model->max_tokens(), "--context",
                "{} is not possible; this model reads 1 to {} tokens", window, model->max_tokens());
  const std::int64_t stride = o.stride == 0 ? window : o.stride;
  const std::vector<std::filesystem::path> files(o.data.begin(), o.data.end());
  const Corpus corpus = read_corpus(files);
  const TokenSpan tokens = corpus_tokens(corpus, *tokenizer);
  const std::string source = files.size() == 1 ? files[0].string() : "the data";
  if (o.prefixes != 0) {
    const Evaluation result =
        evaluate_prefixes(*model, tokens, window, o.prefixes, static_cast<std::uint64_t>(o.common.seed));
    if (o.common.json)
      print_line({{"loss", result.loss},
                  {"perplexity", perplexity(result.loss)},
                  {"prefixes", result.targets},
                  {"window", window}});
    else
      fmt::print("loss {:.4f} nats, perplexity {:.4g}, at the end of {} random prefixes of up to {} tokens\n",
                 result.loss, perplexity(result.loss), result.targets, window);
    return;
  }
  const EvaluationWindows windows(tokens, window, stride, source);
  const auto loss = [&](const Tensor& ids, const Tensor& targets) { return model->loss(ids, targets); };
  const Evaluation result = *evaluate(*model, loss, windows, {.batch_size = o.batch_size});
  const std::string unit = unit_of(*tokenizer);
  // The first token is no target; what it stands for is not counted.
  std::vector<std::int64_t> first(1);
  tokens.copy(0, first);
  const auto bytes = corpus.bytes() - static_cast<std::int64_t>(tokenizer->decode(first).size());
  const EvaluationProtocol protocol{.window = window, .stride = stride, .unit = unit, .bytes = bytes};
  if (o.common.json)
    print_line({{"loss", result.loss},
                {"perplexity", perplexity(result.loss)},
                {"bits_per_byte", bits_per_byte(result, bytes)},
                {"tokens", result.targets},
                {"window", window},
                {"stride", stride},
                {"unit", unit}});
  else
    fmt::print("{}\n", describe(result, protocol));
}

}  // namespace

void add_eval(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval", "measure loss, perplexity and bits per byte on a text");
  command->add_option("--model", o->model, "model folder")->required();
  command->add_option("--data", o->data, "text or .jsonl files")->required()->take_all();
  command->add_option("--context", o->context, "tokens that the model reads at once; 0 = what it can, 1024 at most")
      ->capture_default_str();
  command->add_option("--stride", o->stride, "tokens between two windows; 0 = side by side")->capture_default_str();
  command->add_option("--batch-size", o->batch_size, "windows at a time")->capture_default_str();
  command->add_option("--prefixes", o->prefixes,
                      "instead: the loss at the end of N random prefixes, each read alone, as generation meets it");
  add_common(*command, o->common);
  command->callback([o, command] {
    o->common.apply(*command);
    run(*o);
  });
}

}  // namespace sq::cli
