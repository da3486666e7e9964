// tests/nn/mixers/contract_test.cpp: what nn/mixers/mixer.h promises about values, for every mixer of the registry:
// causality, steps, batches, documents, padding. A mixer that is added to the list is tested with its default options;
// contract_cases.cpp may name more configurations.
#include "autograd/engine.h"
#include "tests/nn/mixers/contract_cases.h"

#include <cmath>

using namespace sq;
using namespace sq::test;

namespace {

constexpr std::int64_t kLengths[] = {1, 16, 61, 63, 64};

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
}
