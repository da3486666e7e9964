// tests/nn/mixers/contract_training_test.cpp: what nn/mixers/mixer.h promises beside the values of a sequence, for
// every mixer of the registry: gradients, threads, files, memory, dtypes, refusals.
#include "autograd/engine.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "tensor/cpu/threads.h"
#include "tests/nn/mixers/contract_cases.h"
#include "tests/support/temporary_folder.h"

#include <cmath>

using namespace sq;
using namespace sq::test;

namespace {

double largest_of(const Tensor& x) {
  double result = 0;
  for (const double value : x.to_vector<double>()) result = std::max(result, std::abs(value));
  return result;
}

/// The result for a random sequence and the gradients of all that it depends on.
std::vector<Tensor> result_and_gradients(Device device, const MixerCase& c, const MixerContext& context) {
  const UseDevice use(device);
  const std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
  const Tensor x = random_rows(1, 13, DType::f64);
  set_requires_grad(x);
  const Tensor y = mixer->forward(x);
  backward(y, random_rows(1, 13, DType::f64, 10));
  std::vector<Tensor> results{detach(y), grad(x)};
  for (const auto& [name, tensor] : mixer->named_parameters()) results.push_back(grad(tensor));
  for (Tensor& result : results) result = moved(result, Device{});
  return results;
}

}  // namespace

TEST_SUITE("mixer contract") {
  TEST_CASE("input and parameters have the right gradients") {
    for_each_case([](const MixerCase& c) {
      MixerContext context = c.context();
      context.bias = true;
      if (default_device().is_cuda()) {  // as on the CPU, where finite differences check them
        const std::vector<Tensor> got = result_and_gradients(default_device(), c, context);
        const std::vector<Tensor> want = result_and_gradients(Device{}, c, context);
        double largest = 0;  // some gradients are 0 but for rounding, so that none is a measure for itself
        for (const Tensor& t : want) largest = std::max(largest, largest_of(t));
        for (std::size_t i = 0; i < got.size(); ++i) CHECK(largest_of(got[i] - want[i]) <= 1e-9 * largest);
        return;
      }
      const std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
      const Tensor x = random_rows(1, 13, DType::f64);
      set_requires_grad(x);
      std::vector<Tensor> inputs{x};
      for (const auto& [name, tensor] : mixer->named_parameters()) inputs.push_back(tensor);
      CHECK(gradcheck([&](const std::vector<Tensor>& in) { return mixer->forward(in[0]); }, inputs,
                      {.tolerance = 1e-5}) == "");
    });
  }

  TEST_CASE("every parameter gets a gradient that is not zero") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c);
      const Tensor y = mixer->forward(random_rows(2, 40));
      backward(y, random_rows(2, 40, DType::f32, 10));
      for (const auto& [name, tensor] : mixer->named_parameters()) {
        const std::string parameter = name;  // a lambda of CAPTURE cannot refer to a structured binding
        CAPTURE(parameter);
        REQUIRE(grad(tensor).defined());
        CHECK(!same_bits(grad(tensor), Tensor::zeros_like(tensor)));
      }
    });
  }

  TEST_CASE("any number of threads gives the same bits") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c);
      const Tensor x = random_rows(2, 61), dy = random_rows(2, 61, DType::f32, 10);
      const int threads = cpu::thread_count();
      std::vector<std::vector<Tensor>> results;
      for (const int count : {1, 2, 3}) {
        cpu::set_thread_count(count);
        mixer->clear_gradients();
        const Tensor y = mixer->forward(x);
        backward(y, dy);
        results.push_back({detach(y), in_steps(*mixer, x, {20, 1})});
        for (const auto& [name, tensor] : mixer->named_parameters()) results.back().push_back(grad(tensor));
      }
      cpu::set_thread_count(threads);
      for (std::size_t i = 0; i < results[0].size(); ++i) {
        CHECK(same_bits(results[0][i], results[1][i]));
        CHECK(same_bits(results[0][i], results[2][i]));
      }
    });
  }

  TEST_CASE("a mixer saved and loaded computes the same bits") {
    const TemporaryFolder folder;
    for_each_case([&](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f32, 1), other = make_mixer(c, DType::f32, 2);
      const Tensor x = random_rows(2, 33);
      CHECK(!same_bits(mixer->forward(x), other->forward(x)));
      save_safetensors(folder.path() / "mixer.safetensors", mixer->state_dict());
      other->load_state_dict(SafetensorsFile(folder.path() / "mixer.safetensors").tensors(), "mixer");
      CHECK(same_bits(mixer->forward(x), other->forward(x)));
    });
  }

  TEST_CASE("a state holds the bytes that the cost announces") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c);
      for (const std::int64_t tokens : {1, 7, 64, 100})
        for (const std::int64_t batch : {1, 3}) {
          const std::int64_t rows = c.context().globals.total(tokens);
          CHECK(mixer->make_state(batch, rows)->bytes() == batch * mixer->cost(tokens).state_bytes);
        }
    });
  }

  TEST_CASE("memory of a training step grows linearly with the length") {
    // Working memory belongs to threads; which of several take part is a matter of timing.
    const int threads = cpu::thread_count();
    cpu::set_thread_count(1);
    for (const MixerEntry* entry : mixer_registry()) {
      CAPTURE(entry->name);
      const MixerCase c{entry, entry->normalise(Json::object(), "mixer")};
      const std::unique_ptr<Mixer> mixer = make_mixer(c);
      const auto peak = [&](std::int64_t length) {
        mixer->clear_gradients();
        const Tensor x = random_rows(1, length);
        const std::size_t before = memory_statistics(default_device()).in_use;
        reset_peak_memory(default_device());
        const Tensor y = mixer->forward(x);
        backward(y, Tensor::ones(y.shape(), y.options()));
        return static_cast<double>(memory_statistics(default_device()).peak - before);
      };
      const auto settled = [&](std::int64_t length) {
        peak(length);  // lists that are kept
        return peak(length);
      };
      const std::int64_t length = default_device().is_cuda() ? 256 : 1024;  // an emulated GPU is slow
      CHECK(settled(2 * length) < 2.3 * settled(length));
    }
    cpu::set_thread_count(threads);
  }

  TEST_CASE("dropout of the weights acts in training mode and never while decoding") {
    for_each_case([](const MixerCase& c) {
      MixerContext context = c.context();
      context.dropout = 0.5;
      const std::unique_ptr<Mixer> mixer = make_mixer(c, context);
      const Tensor x = random_rows(1, 40);
      CHECK(!same_bits(mixer->forward(x), mixer->forward(x)));
      const Tensor decoded = in_steps(*mixer, x, {9, 1});
      CHECK(mixer->training());
      mixer->eval();
      CHECK(relative_error(decoded, mixer->forward(x)) <= 2e-5);
    });
  }

  TEST_CASE("16-bit floats work, in steps too, to their own precision") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> exact = make_mixer(c, DType::f64);
      randomise(*exact, 1, 0.2);
      for (const DType dtype : {DType::bf16, DType::f16}) {
        const std::unique_ptr<Mixer> mixer = make_mixer(c, dtype);
        mixer->load_state_dict(exact->state_dict(), "mixer");
        const Tensor x = random_rows(2, 40, DType::f64), y = mixer->forward(packed_copy(x, dtype));
        CHECK(y.dtype() == dtype);
        CHECK(relative_error(y, exact->forward(x)) <= tolerance(dtype));
        CHECK(relative_error(in_steps(*mixer, packed_copy(x, dtype), {9, 1}), y) <= tolerance(dtype));
        backward(y, Tensor::ones(y.shape(), y.options()));
        for (const auto& [name, tensor] : mixer->named_parameters()) CHECK(all_finite(grad(tensor)));
      }
    });
  }

  TEST_CASE("misuse is refused in one sentence and changes nothing" * doctest::test_suite("cpu")) {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c), other = make_mixer(c);
      const Tensor x = random_rows(2, 6);
      CHECK_THROWS_WITH_AS(mixer->forward(Tensor::zeros({6, 16})), "mixer: f32[6,16]@cpu is not [B,T,C]", Error);
      CHECK_THROWS_WITH_AS(mixer->forward(x, {.lengths = {6}, .documents = {}}),
                           "mixer: 1 lengths for the 2 rows of f32[2,6,16]@cpu", Error);
      CHECK_THROWS_WITH_AS(mixer->forward(x, {.lengths = {6, 7}, .documents = {}}),
                           "mixer: 7 is no length for row 1 of f32[2,6,16]@cpu", Error);
      CHECK_THROWS_WITH_AS(mixer->forward(x, {.lengths = {}, .documents = {{0}, {0, 6}}}),
                           "mixer: the document starts of row 1 of f32[2,6,16]@cpu must ascend from 0 and lie below 6",
                           Error);
      CHECK_THROWS_AS(mixer->forward(x, {.lengths = {}, .documents = {{0}, {1}}}), Error);
      CHECK_THROWS_AS(mixer->forward(x, {.lengths = {}, .documents = {{0}, {0, 3, 3}}}), Error);
      CHECK_THROWS_AS(mixer->forward(x, {.lengths = {}, .documents = {{0}}}), Error);
      CHECK_THROWS_WITH_AS(mixer->forward(x, {.lengths = {6, 6}, .documents = {{0}, {0}}}),
                           "mixer: of lengths, documents and a mask only one can be given", Error);
      CHECK_THROWS_WITH_AS(mixer->forward(x, {.lengths = {}, .documents = {}, .mask = Tensor::ones({6})}),
                           "mixer: mask f32[6]@cpu is not [B,T] for f32[2,6,16]@cpu", Error);
      CHECK_THROWS_AS(mixer->make_state(0, 5), Error);

      const std::unique_ptr<MixerState> state = mixer->make_state(2, 8);
      const Tensor first = mixer->step(x, *state);
      CHECK_THROWS_WITH_AS(mixer->step(x, *state),
                           "mixer: row 0 of the state holds 6 positions and has no room for 6 more: its capacity is 8",
                           Error);
      CHECK_THROWS_WITH_AS(other->step(x, *state), "mixer: the state belongs to another mixer", Error);
      CHECK_THROWS_AS(mixer->step(row_of(x, 0), *state), Error);
      CHECK_THROWS_AS(mixer->step(x, *state, std::vector<std::int64_t>{1}), Error);
      CHECK_THROWS_AS(mixer->step(x, *state, std::vector<std::int64_t>{1, -1}), Error);
      CHECK(state->lengths()[0] == 6);
      const Tensor whole = mixer->forward(concat({x, positions_of(x, 0, 2)}, 1));
      CHECK(relative_error(concat({first, mixer->step(positions_of(x, 0, 2), *state)}, 1), whole) <= 2e-5);
      CHECK(mixer->forward(Tensor::zeros({2, 0, 16})).shape() == Shape{2, 0, 16});
    });
  }
}
