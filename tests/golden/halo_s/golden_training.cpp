#include "tests/golden/halo_s/golden_training.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "ops/view.h"
#include "tensor/memory.h"
#include "tests/golden/halo_s/halo_s_file.h"
#include "train/data/batch.h"
#include "train/trainer.h"

#include <algorithm>
#include <cmath>

namespace golden {

using namespace sq;

namespace {

constexpr std::array<DType, 2> kTypes{DType::f64, DType::f32};

/// What single precision may add to losses and norms that the file gives in double.
constexpr double kSinglePrecision = 2e-5;

/// Compares final.NAME: in f64 relatively, in f32 by the largest absolute difference (AdamW's first steps divide tiny
/// gradients by their own size).
void compare_final(Comparison& comparison, const HaloSFile& file, const Module& model, DType dtype) {
  for (const auto& [name, parameter] : model.named_parameters()) {
    const Tensor& want = file.at("final." + name);
    if (dtype == DType::f64) {
      comparison.close("final." + name, parameter, want, file.tolerance("final_f64"));
      continue;
    }
    const std::vector<double> a = parameter.to_vector<double>(), b = want.to_vector<double>();
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
    if (!(worst <= file.tolerance("final_f32_abs")))
      comparison.fail(fmt::format("final.{} in f32: off by {:.3g}", name, worst));
  }
}

/// Rows of ids and targets [n,T] as they are.
class Rows final : public Dataset {
 public:
  Rows(const Tensor& ids, const Tensor& targets, std::int64_t count)
      : ids_(ids.to_vector<std::int64_t>()),
        targets_(targets.to_vector<std::int64_t>()),
        count_(count),
        length_(ids.size(1)) {}
  std::int64_t size() const override { return count_; }
  std::int64_t length() const override { return length_; }
  void read(std::int64_t index, ItemSpans item) const override {
    std::copy_n(ids_.begin() + index * length_, length_, item.x.begin());
    std::copy_n(targets_.begin() + index * length_, length_, item.y.begin());
  }
  std::string fingerprint() const override { return "golden rows"; }

 private:
  std::vector<std::int64_t> ids_, targets_;
  std::int64_t count_, length_;
};

Tensor column(const std::vector<double>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

}  // namespace

Result check_adamw(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  const Json& o = file.settings().at("optimizer");
  const AdamWSettings settings{.beta1 = o.at("beta1").get<double>(),
                               .beta2 = o.at("beta2").get<double>(),
                               .epsilon = o.at("eps").get<double>(),
                               .weight_decay = o.at("weight_decay").get<double>(),
                               .decay = DecayRule::all};
  const auto steps = file.settings().at("steps").get<std::int64_t>();
  for (const DType dtype : kTypes) {
    const auto model = make_model(file, file.model_config(), dtype);
    AdamW optimizer(*model, settings);
    std::vector<double> losses, norms;
    for (std::int64_t n = 0; n < steps; ++n) {
      model->clear_gradients();
      const Tensor loss = model->loss(select(file.at("input.ids"), 0, n), select(file.at("input.targets"), 0, n));
      backward(loss);
      losses.push_back(loss.item());
      norms.push_back(optimizer.step(o.at("lr").get<double>()));
    }
    const bool wide = dtype == DType::f64;
    comparison.close("output.losses", column(losses), file.at("output.losses"),
                     wide ? file.tolerance("losses_f64") : kSinglePrecision);
    comparison.close("output.grad_norms", column(norms), file.at("output.grad_norms"),
                     wide ? file.tolerance("losses_f64") : kSinglePrecision);
    compare_final(comparison, file, *model, dtype);
    if (!wide) continue;
    for (const auto& [name, moment] : optimizer.state())
      if (name != "step") comparison.close(name, moment, file.at(name), file.tolerance("final_f64"));
  }
  return comparison.result();
}

Result check_trainer(const std::filesystem::path& path) {
  const HaloSFile file(path);
  Comparison comparison;
  const Json& s = file.settings();
  const auto batch_size = s.at("batch_size").get<std::int64_t>();
  for (const DType dtype : kTypes) {
    const auto model = make_model(file, file.model_config(), dtype);
    model->train();
    const Tensor &ids = file.at("input.ids"), &targets = file.at("input.targets");
    EpochOptions epochs;
    epochs.batch_size = batch_size;
    epochs.shuffle = s.at("shuffle").get<bool>();
    epochs.epochs = s.at("epochs").get<std::int64_t>();
    TrainerOptions options;
    options.epochs = *epochs.epochs;
    options.accumulation = s.at("gradient_accumulation_steps").get<std::int64_t>();
    options.max_norm = s.at("max_grad_norm").get<double>();
    options.eval_each_epoch = true;
    options.eval_batch_size = batch_size;
    options.optimizer = {.weight_decay = s.at("weight_decay").get<double>(), .decay = DecayRule::all};
    options.schedule = {.learning_rate = s.at("learning_rate").get<double>()};
    options.faithful = true;
    std::vector<double> norms;
    TrainingJob job{.model = *model,
                    .loss = [&](const Tensor& x, const Tensor& y) { return model->loss(x, y); },
                    .data = std::make_unique<EpochBatches>(std::make_shared<Rows>(ids, targets, ids.size(0)), epochs)};
    job.validation = std::make_shared<Rows>(ids, targets, s.at("validation_rows").get<std::int64_t>());
    job.on_step = [&](const StepReport& report) { norms.push_back(report.grad_norm); };
    const TrainingResult result = Trainer(std::move(job), options).run();
    std::vector<double> train_losses, val_losses;
    for (const EpochReport& epoch : result.epochs) {
      train_losses.push_back(epoch.train_loss);
      val_losses.push_back(epoch.val_loss.value_or(NAN));
    }
    const double tolerance = dtype == DType::f64 ? file.tolerance("losses_f64") : kSinglePrecision;
    comparison.equal("output.global_step", Tensor::from<std::int64_t>({result.step}, {1}),
                     file.at("output.global_step"));
    comparison.close("output.grad_norms", column(norms), file.at("output.grad_norms"), tolerance);
    comparison.close("output.train_loss", column(train_losses), file.at("output.train_loss"), tolerance);
    comparison.close("output.val_loss", column(val_losses), file.at("output.val_loss"), tolerance);
    compare_final(comparison, file, *model, dtype);
  }
  return comparison.result();
}

}  // namespace golden
