// tests/train/toy.h: a model that learns which id follows which, small enough to train in milliseconds.
#pragma once

#include "autograd/node.h"
#include "nn/module.h"
#include "ops/cross_entropy.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/rms_norm.h"
#include "tensor/cpu/threads.h"
#include "tensor/random.h"
#include "train/data/batch.h"
#include "train/evaluate.h"
#include "train/trainer.h"

namespace sq::test {

constexpr std::int64_t kToyVocabulary = 7;

/// While alive, kernels use one thread: for matrices this small, waking a second one takes longer than the work.
class OneThread {
 public:
  OneThread() { cpu::set_thread_count(1); }
  ~OneThread() { cpu::set_thread_count(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_ = cpu::thread_count();
};

/// logits = rms_norm(dropout(table[ids])) · headᵀ.
class ToyModel : public Module {
 public:
  explicit ToyModel(double dropout = 0, DType dtype = DType::f32) : dropout_(dropout) {
    Generator generator(3);
    const TensorOptions options{.dtype = dtype};
    table_ = add_parameter("token_emb.weight", randn({kToyVocabulary, 8}, options, generator));
    gain_ = add_parameter("norm.weight", Tensor::ones({8}, options));
    head_ = add_parameter("head.weight", randn({kToyVocabulary, 8}, options, generator));
  }

  Tensor loss(const Tensor& ids, const Tensor& targets) {
    ++calls;
    if (before_loss) before_loss(calls);
    Tensor x = embedding(table_, ids);
    if (training()) x = sq::dropout(x, dropout_);
    return linear_cross_entropy(rms_norm(x, gain_), head_, targets);
  }
  LossFunction loss_function() {
    return [this](const Tensor& ids, const Tensor& targets) { return loss(ids, targets); };
  }

  int calls = 0;                         // of loss()
  std::function<void(int)> before_loss;  // told their number

 private:
  OneThread one_thread_;
  double dropout_;
  Tensor table_, gain_, head_;
};

/// Items of 5 ids in which id i is followed by 3·i + 1 mod 7; item n begins with id n mod 7.
class SuccessorData final : public Dataset {
 public:
  explicit SuccessorData(std::int64_t items, std::string name = "successors") : items_(items), name_(std::move(name)) {}
  std::int64_t size() const override { return items_; }
  std::int64_t length() const override { return 5; }
  void read(std::int64_t index, ItemSpans item) const override {
    std::int64_t id = index % kToyVocabulary;
    for (std::size_t i = 0; i < item.x.size(); ++i) {
      item.x[i] = id;
      id = (3 * id + 1) % kToyVocabulary;
      item.y[i] = static_cast<std::int64_t>(i) < index % 3 ? kIgnoreTarget : id;  // rows count differently
    }
  }
  std::string fingerprint() const override { return name_ + std::to_string(items_); }

 private:
  std::int64_t items_;
  std::string name_;
};

inline std::unique_ptr<BatchSource> toy_batches(std::int64_t items, std::int64_t batch_size, bool shuffle = false,
                                                const std::string& name = "successors") {
  return std::make_unique<EpochBatches>(
      std::make_shared<SuccessorData>(items, name),
      EpochOptions{.batch_size = batch_size, .shuffle = shuffle, .seed = 5, .epochs = {}});
}

/// Parameters after `options` trained a fresh model without dropout.
inline NamedTensors parameters_after(const TrainerOptions& options, std::unique_ptr<BatchSource> data,
                                     std::vector<StepReport>* reports = nullptr, DType dtype = DType::f64) {
  ToyModel model(0, dtype);
  TrainingJob job{.model = model, .loss = model.loss_function(), .data = std::move(data)};
  if (reports) job.on_step = [reports](const StepReport& report) { reports->push_back(report); };
  Trainer(std::move(job), options).run();
  return model.named_parameters();
}

}  // namespace sq::test
