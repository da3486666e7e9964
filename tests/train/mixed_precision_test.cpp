// Training with products in 16 bits: what stays f32, what the loss scale does, and that it learns.
#include "autograd/autocast.h"
#include "autograd/engine.h"
#include "models/language_model.h"
#include "models/presets.h"
#include "nn/linear.h"
#include "ops/cast.h"
#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "tensor/random.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"
#include "tests/train/toy.h"
#include "train/trainer.h"
#include "train/training_config.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <vector>

using namespace sq;

namespace {

LanguageModel small_model() {
  Generator generator(3);
  const std::vector<std::string> sizes{"hidden_size=32", "num_layers=2", "mixer.num_heads=4", "vocab_size=11"};
  return LanguageModel(preset_config("halo-s-tiny", sizes).model, {}, generator);
}

Tensor ids(std::int64_t shift) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < 40; ++i) values.push_back((i * i + shift) % 11);
  return Tensor::from(values, {2, 20});
}

/// Loss and gradients of a fresh model.
std::pair<double, NamedTensors> gradients_in(DType dtype, bool recompute = false) {
  LanguageModel model = small_model();
  model.set_recompute_layers(recompute);
  Tensor loss;
  {
    const Autocast precision(dtype);
    loss = model.loss(ids(0), ids(1));
  }
  backward(loss);
  NamedTensors gradients;
  for (const auto& [name, parameter] : model.named_parameters()) {
    CHECK(parameter.dtype() == DType::f32);
    if (grad(parameter).defined()) gradients.emplace_back(name, grad(parameter));  // the last globals are not read
  }
  return {loss.item(), gradients};
}

/// y = w·x with a loss whose gradient with respect to y is `slope`.
class Steep : public Module {
 public:
  explicit Steep(double slope) : slope_(slope), layer_(Tensor::from<float>({0.5f, -0.25f}, {1, 2})) {
    add_module("layer", layer_);
  }
  Tensor loss(const Tensor&, const Tensor&) {
    const Tensor y = layer_.forward(Tensor::from<float>({1, 1}, {1, 2}));
    return mul(sum(cast(y, DType::f32)), slope_);
  }

 private:
  double slope_;
  Linear layer_;
};

std::vector<StepReport> train_steep(Steep& model, const TrainerOptions& options,
                                    const std::filesystem::path& folder = {}, bool resume = false) {
  std::vector<StepReport> reports;
  TrainingJob job{.model = model,
                  .loss = [&model](const Tensor& x, const Tensor& y) { return model.loss(x, y); },
                  .data = test::toy_batches(40, 1),
                  .folder = folder};
  job.on_step = [&reports](const StepReport& report) { reports.push_back(report); };
  Trainer trainer(std::move(job), options);
  if (resume) trainer.resume();
  trainer.run();
  return reports;
}

TrainerOptions f16_steps(std::int64_t steps) {
  return {.steps = steps, .max_norm = 0, .max_bad_steps = 3, .dtype = DType::f16, .schedule = {.learning_rate = 1e-3}};
}

}  // namespace

TEST_CASE("Autocast holds for its scope and takes 16-bit floats only") {
  CHECK(autocast_dtype() == DType::f32);
  {
    const Autocast outer(DType::bf16);
    CHECK(autocast_dtype() == DType::bf16);
    {
      const Autocast inner(DType::f32);
      CHECK(autocast_dtype() == DType::f32);
    }
    CHECK(autocast_dtype() == DType::bf16);
    CHECK(autocast(Tensor::ones({2})).dtype() == DType::bf16);
    CHECK(autocast(Tensor::ones({2}, {.dtype = DType::f64})).dtype() == DType::f64);
  }
  CHECK(autocast_dtype() == DType::f32);
  CHECK_THROWS_WITH_AS(Autocast{DType::i64}, "autocast: dtype i64 is not offered; use f32, bf16 or f16", Error);
}

TEST_CASE("in 16 bits a model has nearly the same loss and gradients, and they are f32") {
  const auto full = gradients_in(DType::f32);
  const double loss = full.first;
  const NamedTensors& gradients = full.second;
  for (const auto& half : {std::pair{DType::bf16, 5e-2}, {DType::f16, 1e-2}}) {
    const DType dtype = half.first;
    const double tolerance = half.second;
    CAPTURE(name(dtype));
    const auto [half_loss, half_gradients] = gradients_in(dtype);
    CHECK(half_loss != loss);
    CHECK(half_loss == doctest::Approx(loss).epsilon(tolerance));
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      CAPTURE(gradients[i].first);
      CHECK(half_gradients[i].second.dtype() == DType::f32);
      CHECK(test::relative_error(half_gradients[i].second, gradients[i].second) <= tolerance);
    }
  }
}

TEST_CASE("layers that are recomputed are recomputed in the same precision") {
  const auto [loss, gradients] = gradients_in(DType::bf16);
  const auto [again, recomputed] = gradients_in(DType::bf16, true);
  CHECK(again == loss);
  for (std::size_t i = 0; i < gradients.size(); ++i)
    CHECK(recomputed[i].second.to_vector<float>() == gradients[i].second.to_vector<float>());
}

TEST_CASE("the loss scale doubles after many updates and halves at an overflow") {
  LossScale scale;
  CHECK(scale.value() == 65536);
  for (int i = 0; i < 1999; ++i) scale.succeeded();
  CHECK(scale.value() == 65536);
  scale.succeeded();
  CHECK(scale.value() == 131072);
  scale.succeeded();
  CHECK(scale.overflowed());
  CHECK(scale.value() == 65536);
  CHECK(scale.good_steps() == 0);
  for (int i = 0; i < 16; ++i) CHECK(scale.overflowed());
  CHECK(scale.value() == 1);
  CHECK_FALSE(scale.overflowed());
}

TEST_CASE("f16 gradients that overflow are skipped until the scale fits, and then are the f32 ones") {
  Steep model(100);  // 100·512 is below 65504, 100·1024 is not
  const std::vector<StepReport> reports = train_steep(model, f16_steps(10));
  REQUIRE(reports.size() == 10);
  for (std::size_t i = 0; i < 10; ++i) {
    CAPTURE(i);
    CHECK(reports[i].overflowed == (i < 7));
    CHECK(reports[i].skipped.empty() == (i >= 7));
    CHECK(reports[i].loss_scale == std::max(512.0, 65536 / std::pow(2.0, static_cast<double>(i))));
  }
  CHECK(reports[0].skipped == "the gradient overflows f16; the loss scale falls to 32768");
  CHECK(reports[9].grad_norm == doctest::Approx(100 * std::sqrt(2.0)).epsilon(1e-3));
}

TEST_CASE("gradients that no scale can mend stop the run") {
  Steep model(1e6);
  CHECK_THROWS_AS(train_steep(model, f16_steps(40)), Error);
}

TEST_CASE("the loss scale survives a checkpoint") {
  const test::TemporaryFolder folder;
  Steep whole(100), parts(100);
  const std::vector<StepReport> all = train_steep(whole, f16_steps(12));
  TrainerOptions first = f16_steps(4);
  train_steep(parts, first, folder.path());
  const std::vector<StepReport> rest = train_steep(parts, f16_steps(12), folder.path(), true);
  REQUIRE(rest.size() == 8);
  for (std::size_t i = 0; i < 8; ++i) CHECK(rest[i].loss_scale == all[i + 4].loss_scale);
  CHECK(parts.named_parameters()[0].second.to_vector<float>() == whole.named_parameters()[0].second.to_vector<float>());
}

TEST_CASE("training in bf16 learns as f32 does") {
  const auto last_loss = [](DType dtype) {
    LanguageModel model = small_model();
    std::vector<StepReport> reports;
    TrainingJob job{.model = model,
                    .loss = [&model](const Tensor& x, const Tensor& y) { return model.loss(x, y); },
                    .data = test::toy_batches(400, 8)};
    job.on_step = [&reports](const StepReport& report) { reports.push_back(report); };
    Trainer(std::move(job), {.steps = 40, .dtype = dtype, .schedule = {.learning_rate = 1e-2}}).run();
    return reports.back().loss;
  };
  const double full = last_loss(DType::f32);
  CHECK(full < 0.5);
  CHECK(last_loss(DType::bf16) == doctest::Approx(full).epsilon(0.2));
  CHECK(last_loss(DType::f16) == doctest::Approx(full).epsilon(0.2));
}
