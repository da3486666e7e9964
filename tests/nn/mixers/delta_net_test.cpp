#include "nn/mixers/delta_net.h"

#include "nn/mixers/delta_net_faithful.h"
#include "ops/l2_normalize.h"
#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"

using namespace sq;
using namespace sq::test;

namespace {

MixerCase delta_net(const Json& options) {
  const MixerEntry& entry = find_mixer("delta_net");
  return {&entry, entry.normalise(options, "mixer")};
}

/// A mixer of width 16 with one head whose projections are the identity.
std::unique_ptr<Mixer> bare(Json options) {
  options["num_heads"] = 1;
  std::unique_ptr<Mixer> mixer = make_mixer(delta_net(options), DType::f64);
  std::vector<double> identity(256);
  for (std::size_t i = 0; i < 16; ++i) identity[17 * i] = 1;
  for (auto& [name, tensor] : mixer->named_parameters()) {
    Tensor weight = tensor;
    if (name.starts_with("attn.")) copy_(weight, Tensor::from(identity, {16, 16}));
  }
  return mixer;
}

using Row = std::vector<double>;

std::vector<Row> rows_of(const Tensor& x) {
  const std::vector<double> values = x.to_vector<double>();
  std::vector<Row> rows;
  for (std::int64_t t = 0; t < x.size(1); ++t)
    rows.emplace_back(values.begin() + 16 * t, values.begin() + 16 * (t + 1));
  return rows;
}

Tensor to_tensor(const Row& values) {
  return Tensor::from(values, {1, static_cast<std::int64_t>(values.size()) / 16, 16});
}

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

/// Position after position; `memory` [16][16] becomes the last one.
Tensor reference(const Tensor& x, const std::vector<double>& beta, std::vector<Row>& memory) {
  const auto v = rows_of(x), k = rows_of(l2_normalize(x));
  memory.assign(16, Row(16));
  Row out;
  for (std::size_t t = 0; t < v.size(); ++t) {
    Row error = v[t];
    for (std::size_t a = 0; a < 16; ++a)
      for (std::size_t d = 0; d < 16; ++d) error[d] -= memory[a][d] * k[t][a];
    for (std::size_t a = 0; a < 16; ++a)
      for (std::size_t d = 0; d < 16; ++d) memory[a][d] += beta[t] * k[t][a] * error[d];
    for (std::size_t d = 0; d < 16; ++d) {
      double sum = 0;
      for (std::size_t a = 0; a < 16; ++a) sum += memory[a][d] * k[t][a];
      out.push_back(sum);
    }
  }
  return to_tensor(out);
}

}  // namespace

TEST_CASE("delta_net is the delta rule on unit keys, with a constant share or a learned one") {
  const Tensor x = random_rows(1, 70, DType::f64);
  std::vector<Row> memory;
  check_close(bare({{"beta", "constant"}})->forward(x), reference(x, std::vector<double>(70, 0.9), memory));
  check_close(bare({{"beta", "constant"}, {"beta_value", 1.6}})->forward(x),
              reference(x, std::vector<double>(70, 1.6), memory));
  for (const bool negative : {false, true}) {
    const std::unique_ptr<Mixer> mixer = bare({{"negative_eigenvalues", negative}});
    std::vector<double> weight, beta;
    for (const auto& [name, tensor] : mixer->named_parameters())
      if (name == "b_proj.weight") weight = tensor.to_vector<double>();
    REQUIRE(weight.size() == 16);
    for (const Row& row : rows_of(x)) {
      double sum = 0;
      for (std::size_t c = 0; c < 16; ++c) sum += weight[c] * row[c];
      beta.push_back((negative ? 2 : 1) * sigmoid_of(sum));
    }
    check_close(mixer->forward(x), reference(x, beta, memory));
    const std::unique_ptr<MixerState> state = mixer->make_state(1, 70);
    mixer->step(slice(x, 1, 0, 30), *state);
    mixer->step(slice(x, 1, 30, 70), *state);
    Row all;
    for (const Row& row : memory) all.insert(all.end(), row.begin(), row.end());
    check_close(dynamic_cast<const DeltaNetState&>(*state).memory(), Tensor::from(all, {1, 1, 16, 16}));
  }
}

TEST_CASE("with a share of 1 delta_net returns the last value of a key exactly, however often it was overwritten") {
  // Rows of one key in turn; the value is the row itself, so keys of other lengths carry other values.
  Row values(12 * 16);
  for (std::size_t t = 0; t < 12; ++t) values[t * 16 + t % 4] = static_cast<double>(t + 1);
  const Tensor x = to_tensor(values);
  check_close(bare({{"beta", "constant"}, {"beta_value", 1}})->forward(x), x);
}

TEST_CASE("delta_net takes no notice of rotary positions and keeps a state of constant size") {
  const MixerCase c = delta_net({{"num_heads", 4}});
  MixerContext context = c.context();
  const Tensor x = random_rows(2, 20);
  const Tensor y = make_mixer(c, context)->forward(x);
  context.rope = false;
  CHECK(bit_equal(packed(make_mixer(c, context)->forward(x)), packed(y)));
  for (const std::int64_t tokens : {1, 1000000}) CHECK(c.entry->cost(c.options, context, tokens).state_bytes == 256);
  CHECK(c.entry->cost(c.options, context, 10).parameters == 4 * 256 + 4 * 16);
  CHECK(c.entry->cost(c.options, context, 10).forward_flops == 2 * 10 * (4 * 256 + 64) + 6 * 10 * 4 * 16);
}

TEST_CASE("the faithful delta rule clips and shrinks, and reads along the other axis") {
  const auto heads = [](const Row& values, std::int64_t t) { return Tensor::from(values, {1, 1, t, 2}); };
  // e = clip(3, 0.5) = (1, 0.5); the write is 0.9·(0, 1)ᵀe, read along the values
  const DeltaRuleResult one = delta_net_faithful(heads({1, 0}, 1), heads({0, 1}, 1), heads({3, 0.5}, 1), 0.9, {});
  check_close(one.state, Tensor::from<double>({0, 0, 0.9, 0.45}, {1, 1, 2, 2}));
  check_close(one.y, heads({0, 0.9}, 1));
  // A head beyond 10 shrinks as a whole, its results are clipped; the other head of the row does not.
  const Tensor first = Tensor::from<double>({20, 0, 0, -4, 8, 0, 0, 1}, {1, 2, 2, 2});
  const Tensor zero = Tensor::zeros({1, 2, 1, 2}, {.dtype = DType::f64});
  const Tensor q = Tensor::from<double>({1, 0, 0, 0.5}, {1, 2, 1, 2});
  const DeltaRuleResult two = delta_net_faithful(q, zero, zero, 0.9, first);
  check_close(two.state, Tensor::from<double>({18, 0, 0, -3.6, 8, 0, 0, 1}, {1, 2, 2, 2}));
  check_close(two.y, Tensor::from<double>({1, 0, 0, 0.5}, {1, 2, 1, 2}));
}

TEST_CASE("options of delta_net are checked") {
  const MixerEntry& entry = find_mixer("delta_net");
  CHECK(entry.normalise({{"faithful", true}}, "mixer")["beta"] == "constant");
  CHECK_THROWS_WITH_AS(entry.normalise({{"faithful", true}, {"beta", "learned"}}, "mixer"),
                       "config: mixer.beta is \"learned\" but must be constant in the faithful form", UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"beta", "constant"}, {"negative_eigenvalues", true}}, "mixer"),
                       "config: mixer.negative_eigenvalues is true, but a constant share takes its value from "
                       "beta_value; set beta to learned",
                       UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"beta_value", 2.5}}, "mixer"),
                       "config: mixer.beta_value is 2.5 but must be a finite number >= 0 and <= 2", UsageError);
}
