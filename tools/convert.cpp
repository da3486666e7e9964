// subquad convert: a model of another library becomes a model folder.
#include "models/checkpoints/gpt2.h"
#include "models/estimate.h"
#include "models/model_folder.h"
#include "tools/cli.h"
#include "train/tokenizers/bpe_tokenizer.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace sq::cli {
namespace {

struct Options {
  Common common;
  std::string from, to, source, out;
  Gpt2Target target;
};

void check(const Options& o, const CLI::App& command) {
  require_input(o.from == "gpt2", "--from", "'{}' is unknown; use gpt2", o.from);
  require_input(o.to == "dense" || o.to == "bsbr", "--to", "'{}' is unknown; use dense or bsbr", o.to);
  require_input(o.common.dtype == "f32", "--dtype", "converted weights are stored as f32, not {}", o.common.dtype);
  if (o.to == "dense")
    for (const char* flag : {"--chunk-size", "--state-norm", "--retrieval-gate"})
      require_input(command.count(flag) == 0, flag, "this is an option of bsbr, but --to is dense");
  for (const std::string_view file : {kConfigFile, kWeightsFile})
    require_input(!std::filesystem::exists(std::filesystem::path(o.out) / file), o.out,
                  "there is a {} already; give a new folder", file);
}

/// Names of parameters that the source has nothing for, without the layers' numbers: "attn.meta_r_proj.weight".
std::vector<std::string> new_parameters(const ModelConfig& model, const ModelConfig& source) {
  std::set<std::string> before, added;
  for (const auto& entry : parameter_shapes(source)) before.insert(entry.first);
  for (const auto& [name, shape] : parameter_shapes(model))
    if (!before.contains(name)) added.insert(name.substr(name.find('.', name.find('.') + 1) + 1));
  return {added.begin(), added.end()};
}

void run(const Options& o) {
  const auto [source, model] = import_gpt2(o.source, o.target);
  const std::unique_ptr<Tokenizer> tokenizer = read_hugging_face_tokenizer(o.source, model->config().vocab_size);
  if (tokenizer) require_tokenizer_fits(*tokenizer, model->config().vocab_size, o.source);
  save_model(o.out, *model);
  if (tokenizer) save_tokenizer(*tokenizer, std::filesystem::path(o.out) / kTokenizerFile);
  const ModelConfig &config = model->config(), dense = to_model_config(source);
  const std::vector<std::string> added = new_parameters(config, dense);
  const std::int64_t parameters = model->parameter_count(), before = count_parameters(dense);
  if (o.common.json)
    print_line({{"out", o.out},
                {"from", o.from},
                {"to", o.to},
                {"parameters", parameters},
                {"new_parameters", parameters - before},
                {"new_names", added},
                {"layers", config.num_layers},
                {"hidden_size", config.hidden_size},
                {"vocab_size", config.vocab_size},
                {"max_tokens", config.max_tokens()},
                {"tokenizer", tokenizer ? tokenizer->kind() : ""}});
  say(o.common, "{} holds {} layers of width {}, {} tokens, {} parameters", o.out, config.num_layers,
      config.hidden_size, config.vocab_size, parameters);
  if (!tokenizer)
    say(o.common,
        "the folder has neither tokenizer.json nor vocab.json and merges.txt: the model is converted without a "
        "tokenizer, so it takes ids but no text");
  if (added.empty())
    say(o.common, "the model is the same: nothing was added");
  else
    say(o.common, "{} of the parameters are new: {}", parameters - before, fmt::join(added, ", "));
}

}  // namespace

void add_convert(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert", "turn a Hugging Face model into a model folder");
  command->add_option("--from", o->from, "what the folder holds: gpt2")->required();
  command->add_option("--to", o->to, "dense: the same model; bsbr: block-sparse attention instead")->required();
  command->add_option("source", o->source, "folder with config.json and model.safetensors")->required();
  command->add_option("out", o->out, "model folder to write")->required();
  command->add_option("--chunk-size", o->target.chunk_size, "bsbr: tokens of a chunk")->capture_default_str();
  command->add_option("--state-norm", o->target.state_norm, "bsbr: none, or mean, which keeps retrieval small")
      ->capture_default_str();
  command
      ->add_option("--retrieval-gate", o->target.retrieval_gate,
                   "bsbr: first value of the gates on what is retrieved; 0 leaves it to training")
      ->capture_default_str();
  add_common(*command, o->common);
  command->callback([o, command] {
    o->common.apply(*command);
    check(*o, *command);
    o->target.mixer = o->to == "bsbr" ? Gpt2Target::Mixer::bsbr : Gpt2Target::Mixer::dense;
    run(*o);
  });
}

}  // namespace sq::cli
