// subquad logits: what a model says about given ids, for comparing implementations.
#include "autograd/grad_mode.h"
#include "models/model_folder.h"
#include "ops/cast.h"
#include "tools/cli.h"

namespace sq::cli {

void add_logits(CLI::App& app) {
  struct Options {
    Common common;
    std::string model, out;
    std::vector<std::int64_t> ids;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("logits", "write the logits of given token ids to a safetensors file");
  command->add_option("--model", o->model, "model folder")->required();
  command->add_option("--ids", o->ids, "token ids, separated by commas")->required()->delimiter(',');
  command->add_option("--out", o->out, "file to write: tensors ids [1,T] and logits [1,T,V]")->required();
  add_common(*command, o->common);
  command->callback([o, command] {
    o->common.apply(*command);
    const auto model = load_model(o->model, o->common.options());
    const auto count = static_cast<std::int64_t>(o->ids.size());
    for (const std::int64_t id : o->ids)
      require_input(id >= 0 && id < model->config().vocab_size, "--ids",
                    "{} is not an id of this model; ids are 0 to {}", id, model->config().vocab_size - 1);
    require_input(count <= model->max_tokens(), "--ids", "{} ids exceed the model's limit of {}", count,
                  model->max_tokens());
    const NoGrad unrecorded;
    const Tensor ids = Tensor::from(o->ids, {1, count});
    save_safetensors(o->out, {{"ids", ids}, {"logits", cast(model->forward(ids), DType::f32)}});
    if (o->common.json)
      print_line({{"out", o->out}, {"tokens", count}, {"vocab_size", model->config().vocab_size}});
    else
      say(o->common, "logits of {} ids are in {}", count, o->out);
  });
}

}  // namespace sq::cli
