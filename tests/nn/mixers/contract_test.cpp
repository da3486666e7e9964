// tests/nn/mixers/contract_test.cpp: what nn/mixers/mixer.h promises, for every mixer of the registry. A mixer that is
// added to the list is tested with its default options; more configurations may be named below.
#include "autograd/engine.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/view.h"
#include "tensor/cpu/threads.h"
#include "tests/nn/mixers/mixer_cases.h"
#include "tests/support/temporary_folder.h"

#include <cmath>
#include <map>

using namespace sq;
using namespace sq::test;

namespace {

/// Configurations that can decode; where a mixer has none here, its defaults.
std::vector<MixerCase> cases() {
  const std::multimap<std::string_view, Json> configurations = {
      {"bsbr", {{"num_heads", 2}, {"head_dim", 4}, {"chunk_size", 8}, {"gate", "one"}}},
      {"bsbr", {{"num_heads", 1}, {"head_dim", 6}, {"chunk_size", 5}, {"retriever", "prev"}, {"state_norm", "none"}}},
      {"bsbr",
       {{"num_heads", 2}, {"head_dim", 2}, {"chunk_size", 4}, {"retriever", "token"}, {"compression_factor", 3}}},
      {"delta_net", {{"num_heads", 2}, {"negative_eigenvalues", true}, {"conv_size", 4}, {"output_norm", true}}},
      {"delta_net", {{"num_heads", 4}, {"faithful", true}}},
      {"dense", {{"num_heads", 4}, {"num_kv_heads", 2}}},
      {"dense", {{"num_heads", 3}, {"num_kv_heads", 1}, {"head_dim", 6}}},
      {"gau", {{"chunk_size", 8}, {"expansion_factor", 1}}},
      {"gau", {{"chunk_size", 5}, {"expansion_factor", 1}, {"scaled", false}}},
      {"halo_s",
       {{"num_heads", 4}, {"num_kv_heads", 2}, {"local_window", 8}, {"dilated_offsets", {1, 2}}, {"num_random", 2}}},
      {"halo_s",
       {{"num_heads", 2},
        {"num_kv_heads", 2},
        {"num_globals", 0},
        {"local_window", 2},
        {"dilated_offsets", Json::array()},
        {"num_random", 0}}},
      {"halo_s",
       {{"num_heads", 4}, {"num_globals", 3}, {"local_window", 100}, {"rotate_globals", true}, {"num_random", 1}}},
      {"halo_s", {{"num_heads", 4}, {"local_window", 8}, {"dilated_offsets", {1}}, {"globals", "summary"}}},
      {"halo_s",
       {{"num_heads", 4}, {"num_globals", 1}, {"local_window", 5}, {"globals", "summary"}, {"rotate_globals", true}}},
      {"hopfield", {{"num_heads", 4}, {"num_kv_heads", 2}, {"temperature", 0.7}, {"iterations", 2}}},
      {"linear", {{"num_heads", 2}}},
      {"linear", {{"num_heads", 4}, {"feature_map", "hadamard"}, {"conv_size", 3}, {"output_norm", true}}},
      {"linear", {{"num_heads", 2}, {"faithful", true}}},
      {"sliding_window", {{"num_heads", 4}, {"num_kv_heads", 2}, {"window", 8}}},
      {"sliding_window", {{"num_heads", 3}, {"num_kv_heads", 1}, {"head_dim", 6}, {"window", 15}}},
  };
  std::vector<MixerCase> result;
  for (const MixerEntry* entry : mixer_registry()) {
    const auto [first, last] = configurations.equal_range(entry->name);
    for (auto it = first; it != last; ++it) result.push_back({entry, entry->normalise(it->second, "mixer")});
    if (first == last) result.push_back({entry, entry->normalise(Json::object(), "mixer")});
  }
  return result;
}

template <class Check>
void for_each_case(Check&& check) {
  for (const MixerCase& c : cases()) {
    CAPTURE(c.name());
    check(c);
  }
}

constexpr std::int64_t kLengths[] = {1, 16, 61, 63, 64};

Tensor positions_of(const Tensor& x, std::int64_t begin, std::int64_t end) { return slice(x, 1, begin, end); }
Tensor row_of(const Tensor& x, std::int64_t b) { return slice(x, 0, b, b + 1); }

bool same_bits(const Tensor& a, const Tensor& b) { return bit_equal(packed(a), packed(b)); }

double step_tolerance(DType dtype) { return dtype == DType::f64 ? 1e-10 : 2e-5; }

/// The sequence in steps of the given sizes, the last one repeated as needed.
Tensor in_steps(Mixer& mixer, const Tensor& x, const std::vector<std::int64_t>& sizes) {
  const std::unique_ptr<MixerState> state = mixer.make_state(x.size(0), x.size(1));
  std::vector<Tensor> parts;
  for (std::int64_t begin = 0; begin < x.size(1);) {
    const std::int64_t size = parts.size() < sizes.size() ? sizes[parts.size()] : sizes.back();
    const std::int64_t end = std::min(x.size(1), begin + size);
    parts.push_back(mixer.step(positions_of(x, begin, end), *state));
    begin = end;
  }
  CHECK(state->lengths()[0] == x.size(1));
  return concat(parts, 1);
}

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

void fill_nan(const Tensor& x, std::int64_t b, std::int64_t begin, std::int64_t end) {
  Tensor padding = slice(row_of(x, b), 1, begin, end);
  fill_(padding, NAN);
}

}  // namespace

TEST_SUITE("mixer contract") {
  TEST_CASE("a mixer has the parameters that its row of the registry announces") {
    for_each_case([](const MixerCase& c) {
      for (const bool bias : {false, true}) {
        MixerContext context = c.context();
        context.bias = bias;
        const std::unique_ptr<Mixer> mixer = make_mixer(c, context);
        NamedShapes own;
        for (const auto& [name, tensor] : mixer->named_parameters()) own.emplace_back(name, tensor.shape());
        CHECK(own == c.entry->parameters(c.options, context));
        CHECK(mixer->cost(64).parameters == mixer->parameter_count());
        const Cost announced = c.entry->cost(c.options, context, 64);
        CHECK(mixer->cost(64).forward_flops == announced.forward_flops);
        CHECK(mixer->cost(64).state_bytes == announced.state_bytes);
      }
    });
  }

  TEST_CASE("outputs depend on inputs at the same and earlier positions only") {
    const Poison poison;
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c);
      for (const std::int64_t length : kLengths) {
        const Tensor x = random_rows(2, length), y = mixer->forward(x);
        CHECK(y.shape() == x.shape());
        CHECK(all_finite(y));
        for (const std::int64_t t : {std::int64_t{0}, length / 3, length / 2, length - 1}) {
          Tensor other = packed_copy(x), changed = positions_of(other, t, t + 1);
          fill_(changed, 3);
          const Tensor z = mixer->forward(other);
          CHECK(same_bits(positions_of(z, 0, t), positions_of(y, 0, t)));
          CHECK(!same_bits(positions_of(z, t, t + 1), positions_of(y, t, t + 1)));
        }
      }
    });
  }

  TEST_CASE("steps in any split give what forward gives") {
    const Poison poison;
    for_each_case([](const MixerCase& c) {
      for (const DType dtype : {DType::f32, DType::f64}) {
        const std::unique_ptr<Mixer> mixer = make_mixer(c, dtype);
        CHECK(mixer->can_step());
        for (const std::int64_t length : kLengths) {
          const Tensor x = random_rows(2, length, dtype), y = mixer->forward(x);
          for (const std::vector<std::int64_t>& sizes : std::vector<std::vector<std::int64_t>>{
                   {length}, {1}, {9, 1, 16, 3}, {length - 1 + (length == 1), 1}, {17}}) {
            CAPTURE(length);
            CAPTURE(sizes.front());
            CHECK(relative_error(in_steps(*mixer, x, sizes), y) <= step_tolerance(dtype));
          }
        }
      }
    });
  }

  TEST_CASE("rows of different lengths decode together as they would alone, whatever stands in the padding") {
    const Poison poison;
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
      const Tensor x = random_rows(3, 60, DType::f64), y = mixer->forward(x);
      const std::unique_ptr<MixerState> state = mixer->make_state(3, 60);
      std::vector<std::int64_t> seen(3);
      for (const std::vector<std::int64_t>& counts : std::vector<std::vector<std::int64_t>>{
               {5, 1, 19}, {1, 1, 1}, {0, 1, 1}, {2, 0, 3}, {3, 25, 0}, {1, 1, 1}, {1, 1, 1}, {7, 7, 7}, {12, 1, 2}}) {
        const std::int64_t most = *std::max_element(counts.begin(), counts.end());
        Tensor in = Tensor::full({3, most, 16}, NAN, {.dtype = DType::f64});
        for (std::int64_t b = 0; b < 3; ++b) {
          const auto n = static_cast<std::size_t>(b);
          Tensor real = positions_of(row_of(in, b), 0, counts[n]);
          copy_(real, positions_of(row_of(x, b), seen[n], seen[n] + counts[n]));
        }
        const Tensor out = mixer->step(in, *state, counts);
        for (std::int64_t b = 0; b < 3; ++b) {
          const auto n = static_cast<std::size_t>(b);
          if (counts[n] > 0)
            CHECK(relative_error(positions_of(row_of(out, b), 0, counts[n]),
                                 positions_of(row_of(y, b), seen[n], seen[n] + counts[n])) <= 1e-10);
          const Tensor padding = packed_copy(positions_of(row_of(out, b), counts[n], most));
          CHECK(same_bits(padding, Tensor::zeros_like(padding)));
          seen[n] += counts[n];
          CHECK(state->lengths()[n] == seen[n]);
        }
      }
    });
  }

  TEST_CASE("rows of a batch are independent") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c);
      const Tensor x = random_rows(3, 63), y = mixer->forward(x);
      Tensor other = packed_copy(x), changed = row_of(other, 1);
      fill_(changed, -2);
      const Tensor z = mixer->forward(other);
      CHECK(same_bits(row_of(z, 0), row_of(y, 0)));
      CHECK(same_bits(row_of(z, 2), row_of(y, 2)));
      CHECK(relative_error(mixer->forward(row_of(x, 2)), row_of(y, 2)) <= 2e-5);
      CHECK(relative_error(in_steps(*mixer, row_of(x, 2), {20}), row_of(y, 2)) <= 2e-5);
    });
  }

  TEST_CASE("packed documents are computed as if each stood alone") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
      const Tensor x = random_rows(2, 40, DType::f64);
      for (const SequenceInfo& info :
           {SequenceInfo{{}, {{0, 1, 14}, {0, 1, 14}}}, SequenceInfo{{}, {{0}, {0, 25, 39}}}}) {
        const Tensor y = mixer->forward(x, info);
        CHECK(y.shape() == x.shape());
        for (std::int64_t b = 0; b < 2; ++b) {
          const auto& starts = info.documents[static_cast<std::size_t>(b)];
          for (std::size_t d = 0; d < starts.size(); ++d) {
            const std::int64_t end = d + 1 < starts.size() ? starts[d + 1] : 40;
            const Tensor alone = mixer->forward(positions_of(row_of(x, b), starts[d], end));
            CHECK(relative_error(positions_of(row_of(y, b), starts[d], end), alone) <= 1e-10);
          }
        }
      }
    });
  }

  TEST_CASE("padding changes nothing, gives zero and gets no gradient, even where it is NaN") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
      const Tensor x = random_rows(4, 30, DType::f64);
      const SequenceInfo info{.lengths = {30, 17, 1, 0}, .documents = {}};
      for (std::int64_t b = 0; b < 4; ++b) fill_nan(x, b, info.lengths[static_cast<std::size_t>(b)], 30);
      set_requires_grad(x);
      const Tensor y = mixer->forward(x, info);
      backward(y, Tensor::ones(y.shape(), y.options()));
      const Tensor dx = grad(x);
      CHECK(all_finite(dx));
      for (std::int64_t b = 0; b < 4; ++b) {
        const std::int64_t length = info.lengths[static_cast<std::size_t>(b)];
        for (const Tensor& t : {y, dx}) {
          const Tensor padding = packed_copy(positions_of(row_of(t, b), length, 30));
          CHECK(same_bits(padding, Tensor::zeros_like(padding)));
        }
        if (length == 0) continue;
        const Tensor alone = packed_copy(positions_of(row_of(x, b), 0, length));
        set_requires_grad(alone);
        const Tensor z = mixer->forward(alone);
        CHECK(relative_error(positions_of(row_of(y, b), 0, length), z) <= 1e-10);
        backward(z, Tensor::ones(z.shape(), z.options()));
        CHECK(relative_error(positions_of(row_of(dx, b), 0, length), grad(alone)) <= 1e-10);
      }
      for (const auto& [name, tensor] : mixer->named_parameters()) CHECK(all_finite(grad(tensor)));
    });
  }

  TEST_CASE("padding in front and gaps leave no trace, and positions keep their places") {
    for_each_case([](const MixerCase& c) {
      const std::unique_ptr<Mixer> mixer = make_mixer(c, DType::f64);
      std::vector<float> real(2 * 40, 1);
      for (std::size_t t = 0; t < 5; ++t) real[40 + t] = 0;
      for (std::size_t t = 18; t < 22; ++t) real[40 + t] = 0;
      for (std::size_t t = 31; t < 40; ++t) real[t] = 0;
      const SequenceInfo info{.lengths = {}, .documents = {}, .mask = Tensor::from(real, {2, 40})};
      if (c.entry->name == "halo_s") {
        CHECK_THROWS_AS(mixer->forward(random_rows(2, 40, DType::f64), info), Error);
        return;
      }
      const Tensor x = random_rows(2, 40, DType::f64), other = packed_copy(x);
      for (const auto& [begin, end] : {std::pair{0, 5}, std::pair{18, 22}}) fill_nan(other, 1, begin, end);
      fill_nan(other, 0, 31, 40);
      set_requires_grad(other);
      const Tensor y = mixer->forward(x, info), z = mixer->forward(other, info);
      CHECK(same_bits(y, z));
      backward(z, Tensor::ones(z.shape(), z.options()));
      CHECK(all_finite(z));
      CHECK(all_finite(grad(other)));
      for (const Tensor& t : {z, grad(other)})
        for (const auto& [begin, end] : {std::pair{0, 5}, std::pair{18, 22}}) {
          const Tensor padding = packed_copy(positions_of(row_of(t, 1), begin, end));
          CHECK(same_bits(padding, Tensor::zeros_like(padding)));
        }
      // Padding at the end only is what lengths say.
      const std::vector<float> first(real.begin(), real.begin() + 40);
      CHECK(same_bits(
          mixer->forward(row_of(x, 0), {.lengths = {}, .documents = {}, .mask = Tensor::from(first, {1, 40})}),
          mixer->forward(row_of(x, 0), {.lengths = {31}, .documents = {}})));
      // What comes after a gap still depends on what came before it.
      Tensor changed = packed_copy(x);
      Tensor before = positions_of(row_of(changed, 1), 16, 17);
      fill_(before, 3);
      CHECK(!same_bits(positions_of(row_of(mixer->forward(changed, info), 1), 22, 40),
                       positions_of(row_of(y, 1), 22, 40)));
    });
  }

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
