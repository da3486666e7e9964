// What a step costs besides its arithmetic: no memory from the system, and a profile that adds up.
#include "autograd/engine.h"
#include "models/language_model.h"
#include "tensor/cpu/threads.h"
#include "tensor/profile_report.h"
#include "tensor/random.h"
#include "train/optimizer.h"
#include "train/training_config.h"

#include <doctest/doctest.h>

#include <set>

using namespace sq;

namespace {

constexpr std::int64_t kVocabulary = 65, kBatch = 2, kContext = 48;
constexpr std::int64_t kWarm = 20;  // tokens; two chunks of 8 have been summarised by then

const std::vector<std::pair<std::string, std::vector<std::string>>>& models() {
  static const std::vector<std::pair<std::string, std::vector<std::string>>> list{
      {"nanogpt-cpu", {"hidden_size=32", "num_layers=2"}},
      {"halo-s-tiny", {"hidden_size=32", "num_layers=2", "mixer.local_window=8"}},
      {"halo-s-tiny", {"hidden_size=32", "num_layers=2", "mixer.local_window=8", "mixer.globals=summary"}},
      {"dense-15m", {"hidden_size=48", "num_layers=2", "vocab_size=65", "feed_forward.width=64"}}};
  return list;
}

LanguageModel make(const std::pair<std::string, std::vector<std::string>>& kind) {
  ModelConfig config = preset_config(kind.first, kind.second).model;
  config.vocab_size = kVocabulary;
  Generator generator(1);
  return LanguageModel(config, {}, generator);
}

Tensor ids_of(std::int64_t batch, std::int64_t tokens) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < batch * tokens; ++i)
    ids.push_back(static_cast<std::int64_t>(random_below(1, 0, static_cast<std::uint64_t>(i), kVocabulary)));
  return Tensor::from(ids, {batch, tokens});
}

/// One training step, in phases.
class Training {
 public:
  explicit Training(LanguageModel& model) : model_(model), optimizer_(model, {}) {}

  void step() {
    Tensor loss;
    {
      const ProfileSpan phase(SpanKind::phase, "forward");
      loss = model_.loss(ids_, ids_);
    }
    {
      const ProfileSpan phase(SpanKind::phase, "backward");
      backward(loss);
    }
    const ProfileSpan phase(SpanKind::phase, "update");
    optimizer_.step(1e-3, 1.0);
    model_.clear_gradients();
  }

 private:
  LanguageModel& model_;
  AdamW optimizer_;
  Tensor ids_ = ids_of(kBatch, kContext);
};

std::uint64_t system_allocations() { return memory_statistics(default_device()).system_allocations; }

/// One thread while it lives: how many meet in a kernel, and so how many blocks it needs at once, is chance.
class OneThread {
 public:
  OneThread() { cpu::set_thread_count(1); }
  ~OneThread() { cpu::set_thread_count(saved_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int saved_ = cpu::thread_count();
};

}  // namespace

TEST_CASE("training asks the system for no tensor memory after two steps") {
  const OneThread alone;
  for (const auto& kind : models()) {
    CAPTURE(kind.first);
    LanguageModel model = make(kind);
    Training training(model);
    for (int n = 0; n < 2; ++n) training.step();
    const std::uint64_t before = system_allocations();
    for (int n = 0; n < 4; ++n) training.step();
    CHECK(system_allocations() == before);
  }
}

TEST_CASE("decoding asks the system for no tensor memory once every kind of token has been seen") {
  const OneThread alone;
  for (const auto& kind : models())
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const std::int64_t batch : {1, 5}) {
        CAPTURE(kind.first);
        CAPTURE(batch);
        CAPTURE(name(dtype));
        release_cached_memory();
        LanguageModel model = make(kind);
        if (dtype != DType::f32) model.hold_matrices_in(dtype);
        model.eval();
        const auto state = model.make_state(batch, kContext);
        model.step(ids_of(batch, 3), *state);
        const Tensor next = ids_of(batch, 1);
        std::int64_t position = 3;
        for (; position < kWarm; ++position) model.step(next, *state);
        const std::uint64_t before = system_allocations();
        for (; position < kContext; ++position) model.step(next, *state);
        CHECK(system_allocations() == before);
      }
}

TEST_CASE("the profile of a step holds its kernels, and their work is that of the model") {
  LanguageModel model = make(models().front());
  Training training(model);
  training.step();
  Profiler profiler;
  training.step();
  const ProfileReport report = summarise(profiler);
  REQUIRE(report.phases.size() == 3);
  CHECK(report.kernel_seconds() <= report.seconds());
  std::set<std::pair<std::string_view, std::string_view>> seen;
  double products = 0;
  for (const KernelTotal& kernel : report.kernels) {
    seen.insert({kernel.phase, kernel.name});
    if (kernel.name == "matmul" && kernel.phase == "forward") products += kernel.work.flops;
  }
  using Key = std::pair<std::string_view, std::string_view>;
  for (const Key& key : {Key{"forward", "matmul"}, Key{"forward", "gelu_tanh"}, Key{"forward", "linear_cross_entropy"},
                         Key{"backward", "matmul"}, Key{"backward", "gelu_tanh_backward"},
                         Key{"backward", "dense_attention_backward"}, Key{"update", "adamw"}}) {
    CAPTURE(key.first);
    CAPTURE(key.second);
    CHECK(seen.contains(key));
  }
  std::int64_t weights = 0;  // that x meets in a layer
  for (const auto& [name, tensor] : model.named_parameters())
    if (name.starts_with("layers.") && tensor.rank() == 2) weights += tensor.numel();
  CHECK(products == doctest::Approx(2.0 * kBatch * kContext * static_cast<double>(weights)));

  const std::size_t events = profiler.events().size();
  {
    const Profiler other;  // what another one watches is not recorded here
    training.step();
  }
  CHECK(profiler.events().size() == events);
}
