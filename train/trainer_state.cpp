// Saving the state of a training run and taking it over.
#include "train/trainer.h"

#include <cmath>
#include <limits>

namespace sq {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// JSON has no NaN: null stands for it, and for a value that was not measured.
Json number(std::optional<double> value) { return value && std::isfinite(*value) ? Json(*value) : Json(); }

std::optional<double> read_number(const Json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<double>());
}

/// The options that the parameters depend on. A limit that a schedule was derived from shows up here as well.
Json settings_json(const TrainerOptions& o) {
  const auto name = [](auto choice) { return choices(choice)[static_cast<std::size_t>(choice)]; };
  const Schedule& s = o.schedule;
  const AdamWSettings& a = o.optimizer;
  return {{"accumulation", o.accumulation},
          {"max_norm", o.max_norm},
          {"faithful", o.faithful},
          {"dtype", sq::name(o.dtype)},
          {"schedule",
           {{"shape", name(s.shape)},
            {"learning_rate", s.learning_rate},
            {"min_learning_rate", s.min_learning_rate},
            {"warmup_steps", s.warmup_steps},
            {"decay_steps", s.decay_steps},
            {"cooldown_steps", s.cooldown_steps}}},
          {"optimizer",
           {{"beta1", a.beta1},
            {"beta2", a.beta2},
            {"epsilon", a.epsilon},
            {"weight_decay", a.weight_decay},
            {"decay", name(a.decay)}}}};
}

Json to_json(const std::optional<StepReport>& report) {
  if (!report) return {};
  return {
      {"loss", number(report->loss)}, {"lr", report->learning_rate},          {"grad_norm", number(report->grad_norm)},
      {"seconds", report->seconds},   {"tokens_per_s", report->tokens_per_s}, {"ends_epoch", report->ends_epoch},
      {"skipped", report->skipped}};
}

}  // namespace

void Trainer::remember_position() {
  position_ = loader_->position();
  generator_ = default_generator();
}

Json Trainer::state_json() const {
  Json epochs = Json::array();
  for (const EpochReport& epoch : counters_.epochs)
    epochs.push_back(
        {{"epoch", epoch.epoch}, {"train_loss", number(epoch.train_loss)}, {"val_loss", number(epoch.val_loss)}});
  return {{"step", counters_.step},
          {"tokens", counters_.tokens},
          {"bad_steps", counters_.bad_steps},
          {"smoothed_loss", {{"sum", counters_.smoothed_loss}, {"weight", counters_.smoothed_weight}}},
          {"epoch_so_far", {{"loss_sum", counters_.epoch_loss}, {"weight", counters_.epoch_weight}}},
          {"val_loss", number(counters_.val_loss)},
          {"val_accuracy", number(counters_.val_accuracy)},
          {"epochs", epochs},
          {"step_to_evaluate", to_json(counters_.open)},
          {"loss_scale", {{"value", loss_scale_.value()}, {"good_steps", loss_scale_.good_steps()}}},
          {"generator", {{"seed", generator_.seed}, {"next_stream", generator_.next_stream}}},
          {"data", position_()},
          {"settings", settings_json(options_)},
          {"config", job_.config}};
}

void Trainer::restore_state(const Json& state) {
  Counters p;
  p.step = state.at("step").get<std::int64_t>();
  p.tokens = state.at("tokens").get<std::int64_t>();
  p.bad_steps = state.at("bad_steps").get<std::int64_t>();
  p.smoothed_loss = state.at("smoothed_loss").at("sum").get<double>();
  p.smoothed_weight = state.at("smoothed_loss").at("weight").get<double>();
  p.epoch_loss = state.at("epoch_so_far").at("loss_sum").get<double>();
  p.epoch_weight = state.at("epoch_so_far").at("weight").get<double>();
  p.val_loss = read_number(state.at("val_loss"));
  if (state.contains("val_accuracy")) p.val_accuracy = read_number(state.at("val_accuracy"));
  for (const Json& epoch : state.at("epochs"))
    p.epochs.push_back({.epoch = epoch.at("epoch").get<std::int64_t>(),
                        .train_loss = read_number(epoch.at("train_loss")).value_or(kNaN),
                        .val_loss = read_number(epoch.at("val_loss"))});
  const Json& open = state.at("step_to_evaluate");
  if (!open.is_null())
    p.open = {.step = p.step,
              .last_step = options_.steps,
              .epoch = static_cast<std::int64_t>(p.epochs.size()),
              .loss = read_number(open.at("loss")).value_or(kNaN),
              .smoothed_loss = p.smoothed_weight > 0 ? p.smoothed_loss / p.smoothed_weight : kNaN,
              .learning_rate = open.at("lr").get<double>(),
              .grad_norm = read_number(open.at("grad_norm")).value_or(kNaN),
              .tokens = p.tokens,
              .seconds = open.at("seconds").get<double>(),
              .tokens_per_s = open.at("tokens_per_s").get<double>(),
              .ends_epoch = open.at("ends_epoch").get<bool>(),
              .skipped = open.at("skipped").get<std::string>()};
  const Json& scale = state.at("loss_scale");
  loss_scale_.restore(scale.at("value").get<double>(), scale.at("good_steps").get<std::int64_t>());
  const Json& generator = state.at("generator");
  default_generator() =
      Generator(generator.at("seed").get<std::uint64_t>(), generator.at("next_stream").get<std::uint64_t>());
  counters_ = std::move(p);
}

void Trainer::resume() {
  require(!loader_, "trainer", "resume() comes before run()");
  const LoadedCheckpoint loaded = load_newest_checkpoint(job_.folder, job_.notice);
  const Json& state = loaded.content.state;
  const std::string state_file = (loaded.path / "state.json").string();
  try {
    require_same_config(state.at("config"), job_.config, job_.free_config);
    require_same_config(state.at("settings"), settings_json(options_), job_.free_config);
    job_.data->restore(state.at("data"));
    job_.model.load_state_dict(loaded.content.model, (loaded.path / "model.safetensors").string());
    optimizer_.load_state(loaded.content.optimizer, (loaded.path / "optimizer.safetensors").string());
    restore_state(state);
  } catch (const Json::exception& error) {
    throw UsageError(
        fmt::format("{}: the state lacks an entry or has one of the wrong type ({})", state_file, error.what()));
  }
  require_input(counters_.step == loaded.step, state_file, "it belongs to step {}, the checkpoint to step {}",
                counters_.step, loaded.step);
  saved_step_ = counters_.step;
}

/// A checkpoint of the state before the step under way, unless that is what the newest one holds.
void Trainer::save() {
  if (group_.empty()) remember_position();
  if (!job_.folder.empty()) {
    metrics_->sync();
    if (saved_step_ != counters_.step)
      save_checkpoint(job_.folder, counters_.step,
                      {.model = job_.model.state_dict(), .optimizer = optimizer_.state(), .state = state_json()},
                      options_.keep_checkpoints);
    saved_step_ = counters_.step;
  }
  if (job_.on_save) job_.on_save();
}

void Trainer::try_to_save() {
  try {
    save();
  } catch (const Error& error) {
    notify(fmt::format("step {} could not be saved, training goes on: {}", counters_.step, error.what()));
  }
}

}  // namespace sq
