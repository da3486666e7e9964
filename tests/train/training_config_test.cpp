#include "train/training_config.h"

#include "models/presets.h"
#include "tests/support/temporary_folder.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>

using namespace sq;

namespace {

std::string preset_error(std::vector<std::string> overrides) {
  try {
    preset_config("halo-s-tiny", overrides);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

RunConfig tiny(std::vector<std::string> overrides) { return preset_config("halo-s-tiny", overrides); }

}  // namespace

TEST_CASE("every preset is a valid run") {
  for (const Preset& preset : presets()) {
    INFO(preset.name);
    const RunConfig run = preset_config(preset.name);
    CHECK_NOTHROW(validate(run.training.make_schedule()));
    CHECK(config_to_json(config_from_json<RunConfig>(config_to_json(run))) == config_to_json(run));
  }
}

TEST_CASE("the laptop recipe is the published one") {
  const RunConfig run = preset_config("nanogpt-cpu");
  const TrainingConfig& t = run.training;
  CHECK(run.model.max_seq_len == 64);
  CHECK(t.context == 64);
  CHECK(t.batch_size == 12);
  CHECK(t.steps == 2000);
  CHECK(t.learning_rate == 1e-3);
  CHECK(t.min_learning_rate == 1e-4);
  CHECK(t.schedule == ScheduleShape::cosine);
  CHECK(t.make_schedule().decay_steps == 2000);
  CHECK(t.warmup_steps == 100);
  CHECK(t.beta2 == 0.99);
  CHECK(t.weight_decay == 0.1);
  CHECK(t.grad_clip == 1.0);
  CHECK(run.model.dropout == 0.0);
  CHECK(t.tokenizer == TokenizerKind::character);
}

TEST_CASE("overrides find their section by the key") {
  const RunConfig run = tiny({"mixer.local_window=16", "steps=7", "training.data.stride=3", "model.dropout=0.25"});
  CHECK(run.model.mixer_of(0).options["local_window"] == 16);
  CHECK(run.model.mixer_of(0).options["num_kv_heads"] == 2);
  CHECK(run.training.steps == 7);
  CHECK(run.training.data.stride == 3);
  CHECK(run.model.dropout == 0.25);
  CHECK(tiny({"mixer=dense"}).model.mixer_of(0).type == "dense");
  CHECK(tiny({"mixer.graph=faithful"}).model.mixer_of(0).options["rotate_globals"] == true);
}

TEST_CASE("no key stands in both sections, so that the short form is clear") {
  const Json model = config_to_json(ModelConfig{}), training = config_to_json(TrainingConfig{});
  for (const auto& [key, value] : model.items()) CHECK_FALSE(training.contains(key));
}

TEST_CASE("bad training settings are named with their value and range") {
  CHECK(preset_error({"learning_rate=nan"}) ==
        "preset halo-s-tiny: config: training.learning_rate is \"nan\" but must be a finite number > 0 and <= 1000");
  CHECK(preset_error({"learning_rate=-1"}) ==
        "preset halo-s-tiny: config: training.learning_rate is -1 but must be a finite number > 0 and <= 1000");
  CHECK(preset_error({"batch_size=0"}) ==
        "preset halo-s-tiny: config: training.batch_size is 0 but must be an integer from 1 to 1048576");
  CHECK(preset_error({"steps=1.5"}).find("training.steps is 1.5 but must be an integer from 1 to") !=
        std::string::npos);
  CHECK(preset_error({"schedule=cosin"}) ==
        "preset halo-s-tiny: config: training.schedule is \"cosin\" but must be one of constant, linear, cosine, wsd; "
        "did you mean 'cosine'?");
  CHECK(preset_error({"learning_rate=1e-5"}) ==
        "preset halo-s-tiny: config: training.min_learning_rate is 0.0002 but must be at most learning_rate, which is "
        "1e-05");
  CHECK(preset_error({"context=511"}) ==
        "preset halo-s-tiny: config: training.context is 511 but must be at most 510, the tokens that fit into "
        "model.max_seq_len (it counts learned globals)");
  CHECK(preset_error({"mixer.local_windw=3"})
            .find("unknown key 'model.mixer.local_windw'; did you mean 'local_window'?") != std::string::npos);
  CHECK(preset_error({"learning_rat=1"})
            .find("override: 'learning_rat=1': unknown key 'learning_rat'; did you mean "
                  "'learning_rate'? (known: ") == 0);
  CHECK_THROWS_AS(check_config(TrainingConfig{.learning_rate = NAN}), UsageError);
}

TEST_CASE("a run shorter than its warm-up still reaches its peak") {
  const Schedule schedule = tiny({"steps=10"}).training.make_schedule();
  CHECK(schedule.warmup_steps == 5);
  CHECK(schedule.decay_steps == 10);
  CHECK_NOTHROW(validate(schedule));
  CHECK_NOTHROW(validate(tiny({"steps=1", "schedule=wsd", "cooldown_fraction=1"}).training.make_schedule()));
}

TEST_CASE("a file describes a run like a preset") {
  const test::TemporaryFolder folder;
  const std::string path = folder.path() / "run.json";
  std::ofstream(path) << R"({"model":{"hidden_size":64},"training":{"steps":5}})";
  const std::vector<std::string> overrides{"num_layers=2"};
  const RunConfig run = load_run_config(path, overrides);
  CHECK(run.model.hidden_size == 64);
  CHECK(run.model.num_layers == 2);
  CHECK(run.training.steps == 5);
  std::ofstream(path) << R"({"modl":{}})";
  CHECK_THROWS_WITH_AS(
      load_run_config(path),
      (path + ": config: unknown key 'modl'; did you mean 'model'? (known here: about, model, training)").c_str(),
      UsageError);
}
