#include "nn/mixers/gau.h"

#include "ops/elementwise.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"

#include <cmath>

using namespace sq;
using namespace sq::test;

namespace {

MixerCase gau(const Json& options) {
  const MixerEntry& entry = find_mixer("gau");
  return {&entry, entry.normalise(options, "mixer")};
}

const GauMixer& as_gau(const Mixer& mixer) { return dynamic_cast<const GauMixer&>(mixer); }

}  // namespace

TEST_CASE("gau: five positions in chunks of two by hand") {
  // One feature, all weights 1. S = 1 + 4 = 5 before the second chunk, 5 + 9 + 16 = 30 before the third.
  const MixerContext context{.hidden_size = 1, .num_layers = 1, .layer = 0, .max_seq_len = 64, .rope = false};
  const Tensor x = Tensor::from<double>({1, 2, 3, 4, 5}, {1, 5, 1});
  const auto gate = [](double g) { return 1 / (1 + std::exp(-g)); };
  const auto two = [](double a, double b) {  // softmax(b·a, b·b) over the values a, b
    return (std::exp(b * a - b * b) * a + b) / (std::exp(b * a - b * b) + 1);
  };
  for (const bool scaled : {false, true}) {
    const std::unique_ptr<Mixer> mixer =
        make_mixer(gau({{"expansion_factor", 1}, {"chunk_size", 2}, {"scaled", scaled}}), context, DType::f64);
    for (auto& [name, tensor] : mixer->named_parameters()) fill_(tensor, 1);
    const double second = scaled ? 5.0 / 2 : 5, third = scaled ? 30.0 / 4 : 30;
    check_close(mixer->forward(x), Tensor::from<double>({gate(1) * 1, gate(2) * two(1, 2), gate(3) * (3 + second * 3),
                                                         gate(4) * (two(3, 4) + second * 4), gate(5) * (5 + third * 5)},
                                                        {1, 5, 1}));
    CHECK(as_gau(*mixer).parts(x).state.item() == doctest::Approx(55));
  }
}

TEST_CASE("gau's parts: the cross term is a mean of what the past says, of the size of the local one") {
  const std::unique_ptr<Mixer> mixer = make_mixer(gau({{"chunk_size", 16}}), DType::f64);
  const Tensor x = random_rows(1, 256, DType::f64);
  const GauParts parts = as_gau(*mixer).parts(x);
  CHECK(parts.local.shape() == Shape{1, 1, 256, 32});
  CHECK(parts.state.shape() == Shape{1, 32, 32});
  check_close(slice(parts.cross, 2, 0, 16), Tensor::zeros({1, 1, 16, 32}, x.options()));
  const auto size = [](const Tensor& t) { return std::sqrt(mean(mul(t, t)).item()); };
  CHECK(size(slice(parts.cross, 2, 240, 256)) < size(parts.local));
}

TEST_CASE("gau counts real positions only where rows have gaps") {
  const std::unique_ptr<Mixer> mixer = make_mixer(gau({{"chunk_size", 4}}), DType::f64);
  std::vector<std::uint8_t> real(12, 1);
  for (const std::size_t t : {1, 2, 4, 5, 6, 7}) real[t] = 0;
  const Tensor x = random_rows(1, 12, DType::f64);
  const GauParts parts = as_gau(*mixer).parts(x, Tensor::from(real, {1, 12}));
  // The third chunk reads two positions, as the second one of a sequence does that has chunks of two.
  const std::unique_ptr<Mixer> twos = make_mixer(gau({{"chunk_size", 2}}), DType::f64);
  for (auto& [name, tensor] : twos->named_parameters())
    for (const auto& [other, value] : mixer->named_parameters())
      if (name == other) copy_(tensor, value);
  const Tensor near = Tensor::empty({1, 4, 16}, x.options());
  for (const auto& [to, from] : {std::pair{0, 0}, {1, 3}, {2, 8}, {3, 9}}) {
    Tensor row = slice(near, 1, to, to + 1);
    copy_(row, slice(x, 1, from, from + 1));
  }
  check_close(slice(parts.cross, 2, 8, 10), slice(as_gau(*twos).parts(near).cross, 2, 2, 4));
}

TEST_CASE("gau says what is wrong with its options") {
  CHECK_THROWS_WITH_AS(gau({{"chunk_size", 0}}),
                       "config: mixer.chunk_size is 0 but must be an integer from 1 to 16777216", UsageError);
  CHECK_THROWS_AS(gau({{"expansion_factor", 0}}), UsageError);
  const MixerCase c = gau({{"expansion_factor", 64}});
  MixerContext context = c.context();
  context.hidden_size = 1 << 13;
  CHECK_THROWS_WITH_AS(c.entry->check(c.options, context, "mixer"),
                       "config: mixer.expansion_factor is 64 but times hidden_size, which is 8192, it must be at most "
                       "262144",
                       UsageError);
}

TEST_CASE("gau costs what its matrices, pairs and memory cost") {
  const std::unique_ptr<Mixer> mixer = make_mixer(gau({{"chunk_size", 4}}));
  // 10 rows: five matrices of 16·32; chunks of 4, 4 and 2 with 10 + 10 + 3 pairs; eight rows written and six read
  CHECK(mixer->cost(10).forward_flops == 2 * 10 * 5 * 512 + 4 * 23 * 32 + 2 * (8 + 6) * 32 * 32);
  CHECK(mixer->cost(10).parameters == 5 * 512);
  CHECK(mixer->cost(10).state_bytes == 4 * (3 * 4 * 32 + 32 * 32));
  CHECK(mixer->cost(4).state_bytes == 4 * 2 * 4 * 32);
}
