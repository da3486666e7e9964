#include "train/run.h"

#include "models/model_folder.h"
#include "tensor/file.h"
#include "train/answers.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace sq {
namespace {

constexpr std::string_view kRunFile = "run.json";

/// May change between the parts of a run: they do not touch the parameters, or say how far to go. The end of the
/// schedule is among them because it changes only when it is given; what follows from it, too.
constexpr std::array<std::string_view, 12> kFreeKeys{"about",
                                                     "schedule.cooldown_steps",
                                                     "schedule.decay_steps",
                                                     "schedule.warmup_steps",
                                                     "training.decay_steps",
                                                     "training.steps",
                                                     "training.eval_every",
                                                     "training.eval_batches",
                                                     "training.save_every",
                                                     "training.keep_checkpoints",
                                                     "training.max_bad_steps",
                                                     "training.progress_smoothing"};

TrainerOptions trainer_options(const TrainingConfig& t) {
  TrainerOptions options;
  options.steps = t.steps;
  options.accumulation = t.accumulation;
  options.max_norm = t.grad_clip;
  options.eval_every = t.eval_every;
  options.eval_batch_size = t.batch_size;
  options.save_every = t.save_every;
  options.keep_checkpoints = t.keep_checkpoints;
  options.max_bad_steps = t.max_bad_steps;
  options.loss_smoothing = t.progress_smoothing;
  options.dtype = parse_dtype(choices(t.dtype)[static_cast<std::size_t>(t.dtype)]);
  options.optimizer = {.beta1 = t.beta1,
                       .beta2 = t.beta2,
                       .epsilon = t.epsilon,
                       .weight_decay = t.weight_decay,
                       .decay = t.faithful ? DecayRule::all : DecayRule::matrices};
  options.schedule = t.make_schedule();
  options.faithful = t.faithful;
  return options;
}

/// The configuration with which the run was started last, when this start goes on with it.
std::optional<TrainingConfig> earlier_training(const RunOptions& options) {
  if (options.start != RunStart::resume || !std::filesystem::exists(options.folder / kRunFile)) return std::nullopt;
  return read_run(options.folder).first.training;
}

/// More steps than the run was to have go on at the schedule's minimum, unless that is 0.
void check_added_steps(const TrainingConfig& training, std::int64_t earlier_steps, const Notice& notice) {
  const Schedule schedule = training.make_schedule();
  const std::int64_t steps = training.steps, end = schedule.decay_steps;
  if (steps <= earlier_steps || steps <= end || schedule.shape == ScheduleShape::constant) return;
  require_input(schedule.min_learning_rate > 0, "train",
                "the learning rate of this run is 0 from step {} on, so that more steps would change nothing; "
                "--set decay_steps={} moves the end of its schedule",
                end, steps);
  if (notice)
    notice(fmt::format("the schedule ends at step {}, then the rate stays at {}; --set decay_steps={} moves its end",
                       end, schedule.min_learning_rate, steps));
}

std::shared_ptr<const Tokenizer> earlier_tokenizer(const RunOptions& options) {
  const auto path = options.folder / kTokenizerFile;
  if (options.start != RunStart::resume || !std::filesystem::exists(path)) return nullptr;
  return load_tokenizer(path);
}

}  // namespace

TrainingRun::TrainingRun(const RunConfig& config, RunOptions options) : config_(config), options_(std::move(options)) {
  const std::optional<TrainingConfig> earlier = earlier_training(options_);
  if (config_.training.decay_steps == 0)  // fixed when the run begins
    config_.training.decay_steps = earlier ? earlier->decay_steps : config_.training.steps;
  data_ = make_training_data(config_.training, options_.files, earlier_tokenizer(options_));
  if (config_.model.vocab_size == 0) config_.model.vocab_size = data_.vocab_size;
  require_input(config_.model.vocab_size == data_.vocab_size, "train",
                "model.vocab_size is {} but the data has {} different tokens; set it to 0 to take that number",
                config_.model.vocab_size, data_.vocab_size);
  default_generator() = Generator(static_cast<std::uint64_t>(config_.training.seed));
  model_ = std::make_unique<LanguageModel>(config_.model);

  open_run_folder(options_.folder, options_.start);
  TrainingJob job{.model = *model_,
                  .loss = [this](const Tensor& ids, const Tensor& targets) { return loss(ids, targets); },
                  .data = std::move(data_.batches)};
  job.validation = data_.validation;
  job.right_answers = right_answers();
  job.folder = options_.folder;
  job.config = config_to_json(config_);
  job.free_config.assign(kFreeKeys.begin(), kFreeKeys.end());
  job.stop = options_.stop;
  job.on_step = options_.on_step;
  job.on_save = [this] { save(); };
  job.notice = options_.notice;
  trainer_ = std::make_unique<Trainer>(std::move(job), trainer_options(config_.training));
  if (options_.start == RunStart::resume) trainer_->resume();
  if (earlier) check_added_steps(config_.training, earlier->steps, options_.notice);
  Json files = Json::array();
  for (const auto& file : options_.files) files.push_back(std::filesystem::absolute(file).string());
  replace_file(options_.folder / kRunFile, Json{{"config", config_to_json(config_)}, {"files", files}}.dump(2) + "\n");
}

TrainingRun::~TrainingRun() = default;

void TrainingRun::save() {
  if (data_.tokenizer) save_tokenizer(*data_.tokenizer, options_.folder / kTokenizerFile);
  save_model(options_.folder, *model_);
}

Tensor TrainingRun::loss(const Tensor& ids, const Tensor& targets) {
  return data_.asks ? answer_loss(*model_, ids, targets) : model_->loss(ids, targets);
}

RightAnswers TrainingRun::right_answers() {
  if (!data_.asks) return {};
  return [this](const Tensor& ids, const Tensor& targets) { return count_right_answers(*model_, ids, targets); };
}

RunResult TrainingRun::run() {
  RunResult result;
  result.training = trainer_->run();
  if (result.training.interrupted || !data_.whole_validation) return result;
  result.validation = evaluate(
      *model_, [this](const Tensor& ids, const Tensor& targets) { return loss(ids, targets); }, *data_.whole_validation,
      {.batch_size = config_.training.batch_size, .right_answers = right_answers(), .stop = options_.stop});
  result.protocol = {.window = config_.training.context,
                     .stride = config_.training.context,
                     .unit = data_.unit,
                     .bytes = data_.validation_bytes};
  return result;
}

std::pair<RunConfig, std::vector<std::filesystem::path>> read_run(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kRunFile;
  require_input(std::filesystem::exists(path), "train", "'{}' holds no run; give --preset or --config to begin one",
                folder.string());
  const Json document = read_json_file(path.string());
  require_input(
      document.is_object() && document.contains("config") && document.contains("files") && document["files"].is_array(),
      "train", "'{}' is damaged; give --preset or --config and --data", path.string());
  std::vector<std::filesystem::path> files;
  for (const Json& file : document["files"]) files.emplace_back(file.get<std::string>());
  return {config_from_json<RunConfig>(document["config"], ""), files};
}

}  // namespace sq
