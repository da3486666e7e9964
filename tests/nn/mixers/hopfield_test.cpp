#include "nn/mixers/hopfield.h"

#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"

using namespace sq;
using namespace sq::test;

namespace {

MixerCase hopfield(const Json& options) {
  const MixerEntry& entry = find_mixer("hopfield");
  return {&entry, entry.normalise(options, "mixer")};
}

using Row = std::vector<double>;

/// softmax(β ξ·k_j)-weighted sum of rows 0 … t.
Row average(const Row& xi, const std::vector<Row>& keys, const std::vector<Row>& rows, std::size_t t, double beta) {
  Row result(rows[0].size());
  double sum = 0;
  for (std::size_t j = 0; j <= t; ++j) {
    double score = 0;
    for (std::size_t d = 0; d < xi.size(); ++d) score += beta * xi[d] * keys[j][d];
    sum += std::exp(score);
    for (std::size_t d = 0; d < result.size(); ++d) result[d] += std::exp(score) * rows[j][d];
  }
  for (double& value : result) value /= sum;
  return result;
}

/// A mixer of width 16 with one head whose q, k, v and o are the identity.
std::unique_ptr<Mixer> bare(double temperature, std::int64_t iterations) {
  const MixerCase c = hopfield({{"num_heads", 1}, {"temperature", temperature}, {"iterations", iterations}});
  MixerContext context = c.context();
  context.rope = false;
  std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
  std::vector<double> identity(256);
  for (std::size_t i = 0; i < 16; ++i) identity[17 * i] = 1;
  for (auto& [name, tensor] : mixer->named_parameters()) {
    Tensor weight = tensor;
    copy_(weight, Tensor::from(identity, {16, 16}));
  }
  return mixer;
}

}  // namespace

TEST_CASE("queries move to averages of the keys as often as asked, then read the values") {
  const Tensor x = random_rows(1, 7, DType::f64);
  std::vector<Row> rows;
  const std::vector<double> values = x.to_vector<double>();
  for (std::size_t t = 0; t < 7; ++t)
    rows.emplace_back(values.begin() + 16 * static_cast<std::ptrdiff_t>(t),
                      values.begin() + 16 * static_cast<std::ptrdiff_t>(t + 1));
  for (const std::int64_t iterations : {0, 1, 3})
    for (const double temperature : {0.25, 1.0, 40.0}) {
      std::vector<double> want;
      for (std::size_t t = 0; t < 7; ++t) {
        Row xi = rows[t];
        for (std::int64_t r = 0; r <= iterations; ++r) xi = average(xi, rows, rows, t, 1 / (temperature * 4));
        want.insert(want.end(), xi.begin(), xi.end());
      }
      check_close(bare(temperature, iterations)->forward(x), Tensor::from(want, {1, 7, 16}));
    }
}

TEST_CASE("without rounds and at temperature 1 a Hopfield mixer is dense attention") {
  const std::unique_ptr<Mixer> mixer = make_mixer(hopfield({{"num_heads", 4}, {"num_kv_heads", 2}}), DType::f64);
  const MixerEntry& entry = find_mixer("dense");
  const std::unique_ptr<Mixer> dense =
      make_mixer({&entry, entry.normalise({{"num_heads", 4}, {"num_kv_heads", 2}}, "mixer")}, DType::f64);
  const Tensor x = random_rows(2, 30, DType::f64);
  check_close(mixer->forward(x), dense->forward(x));
  CHECK(mixer->cost(30).forward_flops == dense->cost(30).forward_flops);
}

TEST_CASE("a cold Hopfield mixer returns the stored pattern nearest to a noisy query") {
  // Features 0 … 7 are key and value, features 8 … 15 the query. Four patterns, then a question with noise.
  const std::unique_ptr<Mixer> mixer = bare(0.1, 2);
  std::vector<double> stored(256), asked(256);
  for (std::size_t i = 0; i < 8; ++i) stored[17 * i] = asked[i * 16 + i + 8] = 1;
  for (auto& [name, tensor] : mixer->named_parameters()) {
    Tensor weight = tensor;
    if (!name.starts_with("attn.o")) copy_(weight, Tensor::from(name.starts_with("attn.q") ? asked : stored, {16, 16}));
  }
  std::vector<double> values(5 * 16);
  for (std::size_t t = 0; t < 4; ++t) values[t * 16 + t] = 4;
  for (std::size_t d = 0; d < 8; ++d) values[4 * 16 + 8 + d] = (d == 2 ? 4 : 0) + (d % 2 == 0 ? 0.6 : -0.6);
  const std::vector<double> answer =
      slice(mixer->forward(Tensor::from(values, {1, 5, 16})), 1, 4, 5).to_vector<double>();
  for (std::size_t d = 0; d < 16; ++d) CHECK(answer[d] == doctest::Approx(d == 2 ? 4 : 0).epsilon(1e-6));
}

TEST_CASE("each round costs as much as attention") {
  const std::unique_ptr<Mixer> none = make_mixer(hopfield({{"num_heads", 4}, {"num_kv_heads", 2}})),
                               two = make_mixer(hopfield({{"num_heads", 4}, {"num_kv_heads", 2}, {"iterations", 2}}));
  CHECK(two->cost(10).forward_flops - none->cost(10).forward_flops == 2 * 4 * 55 * 4 * 4);
  CHECK(two->cost(10).state_bytes == 2 * 10 * 8 * 4);
}

TEST_CASE("options of a Hopfield mixer are checked") {
  const MixerEntry& entry = find_mixer("hopfield");
  CHECK_THROWS_WITH_AS(entry.normalise({{"temperature", 0}}, "mixer"),
                       "config: mixer.temperature is 0 but must be a finite number > 0 and <= 10000", UsageError);
  CHECK_THROWS_AS(entry.normalise({{"temperature", -2}}, "mixer"), UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"iterations", -1}}, "mixer"),
                       "config: mixer.iterations is -1 but must be an integer from 0 to 64", UsageError);
}
