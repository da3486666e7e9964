#include "nn/mixers/linear.h"

#include "autograd/engine.h"
#include "ops/elementwise.h"
#include "ops/rope.h"
#include "ops/view.h"
#include "tests/nn/mixers/mixer_cases.h"

using namespace sq;
using namespace sq::test;

namespace {

MixerCase linear_case(const Json& options) {
  const MixerEntry& entry = find_mixer("linear");
  return {&entry, entry.normalise(options, "mixer")};
}

/// A mixer of width 16 with one head whose q, k, v and o are the identity.
std::unique_ptr<Mixer> bare(Json options, bool rope = false) {
  options["num_heads"] = 1;
  const MixerCase c = linear_case(options);
  MixerContext context = c.context();
  context.rope = rope;
  std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
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
  for (std::int64_t t = 0; t < x.size(-2); ++t) {
    const auto begin = values.begin() + t * x.size(-1);
    rows.emplace_back(begin, begin + x.size(-1));
  }
  return rows;
}

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// o_t = Σ_{j<=t} (q_t·k_j) v_j, divided by Σ plain_q_t·plain_k_j + 1e-6 where those are given.
Tensor reference(const std::vector<Row>& q, const std::vector<Row>& k, const std::vector<Row>& v,
                 const std::vector<Row>* plain = nullptr) {
  std::vector<double> out;
  for (std::size_t t = 0; t < v.size(); ++t) {
    Row sum(v[0].size());
    double divisor = plain ? 1e-6 : 0;
    for (std::size_t j = 0; j <= t; ++j) {
      for (std::size_t d = 0; d < sum.size(); ++d) sum[d] += dot(q[t], k[j]) * v[j][d];
      if (plain) divisor += dot((*plain)[t], (*plain)[j]);
    }
    for (const double value : sum) out.push_back(plain ? value / divisor : value);
  }
  return Tensor::from(out, {1, static_cast<std::int64_t>(v.size()), static_cast<std::int64_t>(v[0].size())});
}

}  // namespace

TEST_CASE("linear attention is a weighted sum of the past, normalised or not") {
  const Tensor x = random_rows(1, 70, DType::f64);
  const auto v = rows_of(x), features = rows_of(elu_plus_one(x));
  check_close(bare(Json::object())->forward(x), reference(features, features, v, &features));
  check_close(bare({{"feature_map", "identity"}})->forward(x), reference(v, v, v));
  check_close(bare({{"feature_map", "elu_plus_1"}, {"normalise", false}})->forward(x),
              reference(features, features, v));
}

TEST_CASE("rotary positions turn the numerator of linear attention and leave its divisor positive") {
  const Tensor x = random_rows(1, 70, DType::f64);
  const auto v = rows_of(x), features = rows_of(elu_plus_one(x));
  const auto turned = rows_of(rope(reshape(elu_plus_one(x), {1, 1, 70, 16}), Tensor::arange(70)));
  check_close(bare(Json::object(), true)->forward(x), reference(turned, turned, v, &features));
  check_close(bare({{"normalise", false}}, true)->forward(x), reference(turned, turned, v));
}

TEST_CASE("where all features are 0 linear attention gives 0 and finite gradients") {
  for (const DType dtype : {DType::f64, DType::f32, DType::f16}) {
    const MixerCase c = linear_case({{"num_heads", 2}, {"feature_map", "relu"}});
    for (const bool rope : {true, false}) {
      MixerContext context = c.context();
      context.rope = rope;
      const std::unique_ptr<Mixer> mixer = make_mixer(c, context, dtype);
      for (auto& [name, tensor] : mixer->named_parameters()) {
        Tensor weight = tensor;
        if (name == "attn.q_proj.weight") fill_(weight, -1);
      }
      const Tensor x = Tensor::ones({1, 9, 16}, {.dtype = dtype});
      set_requires_grad(x);
      const Tensor y = mixer->forward(x);
      for (const double value : y.to_vector<double>()) CHECK(value == 0);
      backward(y, Tensor::ones(y.shape(), y.options()));
      CHECK(all_finite(grad(x)));
      for (const auto& [name, tensor] : mixer->named_parameters()) CHECK(all_finite(grad(tensor)));
    }
  }
}

TEST_CASE("the faithful form keeps one number a head") {
  const Tensor x = random_rows(1, 20, DType::f64);
  const auto rows = rows_of(x);
  std::vector<double> want;
  double running = 0;
  for (const Row& row : rows) {
    running += dot(row, row);
    double total = 0;
    for (const double value : row) total += value;
    want.insert(want.end(), 16, running * total);
  }
  const std::unique_ptr<Mixer> mixer = bare({{"faithful", true}});
  check_close(mixer->forward(x), Tensor::from(want, {1, 20, 16}));
  const std::unique_ptr<MixerState> state = mixer->make_state(1, 20);
  mixer->step(x, *state);
  check_close(dynamic_cast<const LinearState&>(*state).memory(), Tensor::full({1, 1, 1, 1}, running, x.options()));
  CHECK(mixer->cost(20).state_bytes == 4);
}

TEST_CASE("the state of linear attention is the sum of what was written") {
  const Tensor x = random_rows(1, 30, DType::f64);
  const auto v = rows_of(x), k = rows_of(elu_plus_one(x));
  std::vector<double> memory(256), normaliser(16);
  for (std::size_t t = 0; t < 30; ++t)
    for (std::size_t a = 0; a < 16; ++a) {
      normaliser[a] += k[t][a];
      for (std::size_t d = 0; d < 16; ++d) memory[a * 16 + d] += k[t][a] * v[t][d];
    }
  const std::unique_ptr<Mixer> mixer = bare(Json::object());
  const std::unique_ptr<MixerState> state = mixer->make_state(1, 30);
  mixer->step(slice(x, 1, 0, 11), *state);
  mixer->step(slice(x, 1, 11, 30), *state);
  const auto& sums = dynamic_cast<const LinearState&>(*state);
  check_close(sums.memory(), Tensor::from(memory, {1, 1, 16, 16}));
  check_close(sums.normaliser(), Tensor::from(normaliser, {1, 1, 16}));
}

TEST_CASE("linear attention costs its projections and 4·K·(D+1) a position and head, its state K·(D+1)") {
  const MixerCase plain = linear_case({{"num_heads", 4}});
  const std::unique_ptr<Mixer> mixer = make_mixer(plain);
  for (const std::int64_t tokens : {1, 1000000}) CHECK(mixer->cost(tokens).state_bytes == 4 * 4 * 4 * 5);
  CHECK(mixer->cost(10).forward_flops == 2 * 10 * 4 * 256 + 4 * 10 * 4 * 4 * 5);
  const std::unique_ptr<Mixer> wide = make_mixer(linear_case({{"num_heads", 4}, {"feature_map", "hedgehog"}}));
  CHECK(wide->cost(10).forward_flops == 2 * 10 * 4 * 256 + 4 * 10 * 4 * 8 * 5 + 2 * 2 * 10 * 4 * 16);
  CHECK(wide->cost(10).parameters == 1024 + 2 * (16 + 4));
}

TEST_CASE("every feature map works in linear attention, in steps too") {
  for (const std::string_view name : choices(FeatureKind())) {
    const MixerCase c = linear_case({{"num_heads", 4}, {"feature_map", name}});
    CAPTURE(c.name());
    MixerContext context = c.context();
    context.rope = false;
    const std::unique_ptr<Mixer> mixer = make_mixer(c, context, DType::f64);
    const Tensor x = random_rows(2, 12, DType::f64), y = mixer->forward(x);
    const std::unique_ptr<MixerState> state = mixer->make_state(2, 12);
    mixer->step(slice(x, 1, 0, 7), *state);
    CHECK(relative_error(mixer->step(slice(x, 1, 7, 12), *state), slice(y, 1, 7, 12)) <= 1e-10);
    CHECK(state->bytes() * 1 == 2 * 2 * c.entry->cost(c.options, context, 12).state_bytes);  // f64: twice f32
  }
}

TEST_CASE("a short convolution on q, k and v lets a position be written under its neighbour's key") {
  // The key is the token before, the value the own one: what follows a token is recalled when it comes again.
  const std::unique_ptr<Mixer> mixer = bare({{"feature_map", "identity"}, {"conv_size", 2}});
  for (auto& [name, tensor] : mixer->named_parameters()) {
    Tensor weight = tensor;
    if (!name.ends_with("_conv.weight")) continue;
    std::vector<double> taps;
    for (int c = 0; c < 16; ++c) {
      taps.push_back(name.starts_with("k_conv") ? 40 : 0);
      taps.push_back(name.starts_with("k_conv") ? 0 : 40);
    }
    copy_(weight, Tensor::from(taps, {16, 2}));  // 40: silu lets it through
  }
  std::vector<double> values(5 * 16);
  for (const auto& [t, token] : {std::pair{0, 3}, std::pair{1, 5}, std::pair{2, 9}, std::pair{3, 1}, std::pair{4, 5}})
    values[static_cast<std::size_t>(t * 16 + token)] = 1;
  const std::vector<double> last = slice(mixer->forward(Tensor::from(values, {1, 5, 16})), 1, 4, 5).to_vector<double>();
  for (std::size_t c = 0; c < 16; ++c) CHECK(last[c] == doctest::Approx(c == 9 ? 64000 : 0));
}

TEST_CASE("an output norm keeps the size of sums that grow") {
  const std::unique_ptr<Mixer> mixer = bare({{"feature_map", "identity"}, {"output_norm", true}});
  Tensor gain;
  for (const auto& [name, tensor] : mixer->named_parameters())
    if (name == "o_norm.weight") gain = tensor;
  REQUIRE(gain.defined());
  fill_(gain, 2);
  const std::vector<Row> rows = rows_of(mixer->forward(random_rows(1, 60, DType::f64)));
  for (const Row& row : rows) CHECK(dot(row, row) / 16 == doctest::Approx(4).epsilon(1e-3));
}

TEST_CASE("options of linear attention are checked") {
  const MixerEntry& entry = find_mixer("linear");
  CHECK(entry.normalise({{"feature_map", "silu"}}, "mixer")["normalise"] == false);
  CHECK(entry.normalise({{"feature_map", "taylor2"}}, "mixer")["normalise"] == true);
  CHECK(entry.normalise({{"faithful", true}}, "mixer")["feature_map"] == "identity");
  CHECK_THROWS_WITH_AS(entry.normalise({{"feature_map", "silu"}, {"normalise", true}}, "mixer"),
                       "config: mixer.normalise is true, but the products of \"silu\" may be negative and their sum 0; "
                       "set it to false or choose another feature map",
                       UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"feature_map", "relu"}, {"faithful", true}}, "mixer"),
                       "config: mixer.feature_map is \"relu\" but the faithful form has no features; leave it out",
                       UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"conv_size", 4}, {"faithful", true}}, "mixer"),
                       "config: mixer.conv_size is 4 but the faithful form has no convolutions; leave it out",
                       UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise({{"output_norm", true}, {"faithful", true}}, "mixer"),
                       "config: mixer.output_norm is true but the faithful form has no norm; leave it out", UsageError);
  CHECK_THROWS_AS(entry.normalise({{"feature_map", "gauss"}}, "mixer"), UsageError);
  const auto check = [](const Json& options) {
    const MixerCase c = linear_case(options);
    c.entry->check(c.options, c.context(), "mixer");
  };
  CHECK_THROWS_WITH_AS(check({{"num_heads", 1}, {"feature_map", "taylor2"}}),
                       "config: mixer.feature_map \"taylor2\" makes 153 features of 16, but rotary positions need an "
                       "even number; choose another map or other positions",
                       UsageError);
  CHECK_THROWS_WITH_AS(check({{"num_heads", 8}, {"feature_map", "dpfp"}, {"dpfp_order", 4}}),
                       "config: mixer.dpfp_order is 4 but must be less than twice the 2 features of a head",
                       UsageError);
  CHECK_THROWS_AS(check({{"num_heads", 3}}), UsageError);
}
