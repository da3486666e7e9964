#include "autograd/engine.h"
#include "nn/dropout.h"
#include "nn/embedding.h"
#include "nn/feed_forward.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/view.h"
#include "tests/support/compare.h"

using namespace sq;
using namespace sq::test;

namespace {

TensorOptions in_double() { return {.dtype = DType::f64}; }

std::vector<std::string> names(const Module& module) {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : module.named_parameters()) result.push_back(name);
  return result;
}

/// Gradients of a module's parameters and of its input.
void check_module_gradients(const Module& module, const std::function<Tensor(const Tensor&)>& forward,
                            const Tensor& x) {
  std::vector<Tensor> inputs{x};
  for (const auto& [name, tensor] : module.named_parameters()) inputs.push_back(tensor);
  check_gradients([&](const std::vector<Tensor>& in) { return forward(in[0]); }, inputs);
}

}  // namespace

TEST_CASE("a linear layer of given weights, worked out by hand" * doctest::test_suite("cpu")) {
  const Linear layer(Tensor::from<double>({1, 2, 3, 4, 5, 6}, {2, 3}), Tensor::from<double>({10, 20}, {2}));
  const Tensor y = layer.forward(Tensor::from<double>({1, 0, -1}, {1, 3}));
  CHECK(y.to_vector<double>() == std::vector<double>{8, 18});
  CHECK(names(layer) == std::vector<std::string>{"weight", "bias"});
  CHECK_THROWS_WITH_AS(Linear(Tensor::zeros({2, 3}), Tensor::zeros({3})),
                       "linear: bias f32[3]@cpu does not fit weight f32[2,3]@cpu", Error);
  CHECK_THROWS_WITH_AS(Linear(Tensor::zeros({6})), "linear: weight f32[6]@cpu is not a matrix [out,in]", Error);
}

TEST_CASE("linear, norm, embedding and feed-forward layers have the right gradients") {
  Generator generator(3);
  Initializer init(InitScheme::faithful, 64, 1, generator, in_double());
  const Tensor x = variable({2, 3, 6});
  const Linear linear(6, 4, true, init);
  check_module_gradients(
      linear, [&](const Tensor& in) { return linear.forward(in); }, x);
  for (const NormKind kind : {NormKind::layer, NormKind::rms}) {
    const Norm norm(6, {.kind = kind}, init);
    check_module_gradients(
        norm, [&](const Tensor& in) { return norm.forward(in); }, x);
  }
  for (const FeedForwardKind kind : {FeedForwardKind::swiglu, FeedForwardKind::gelu, FeedForwardKind::gelu_tanh}) {
    const FeedForward ffn(6, {.kind = kind, .width = 5, .bias = true}, init);
    check_module_gradients(
        ffn, [&](const Tensor& in) { return ffn.forward(in); }, x);
  }
  const Embedding table(5, 3, init);
  const Tensor ids = Tensor::from<std::int64_t>({4, 0, 4, 2}, {2, 2});
  check_gradients([&](const std::vector<Tensor>&) { return table.forward(ids); }, {table.weight()});
  CHECK(bit_equal(select(select(table.forward(ids), 0, 1), 0, 1), select(table.weight(), 0, 2)));
}

TEST_CASE("norms begin as pure normalisation") {
  Generator generator(3);
  const Initializer init(InitScheme::scaled, 64, 1, generator, in_double());
  const Tensor x = randn({40, 64}, in_double());
  for (const NormKind kind : {NormKind::layer, NormKind::rms}) {
    const Norm norm(64, {.kind = kind}, init);
    const std::vector<double> y = norm.forward(add(mul(x, 3), kind == NormKind::layer ? 5 : 0)).to_vector<double>();
    double sum = 0, squares = 0;
    for (const double v : y) {
      sum += v / 2560;
      squares += v * v / 2560;
    }
    CHECK(squares == doctest::Approx(1).epsilon(1e-4));
    if (kind == NormKind::layer) CHECK(std::abs(sum) < 1e-12);
  }
  CHECK(names(Norm(4, {}, init)) == std::vector<std::string>{"weight", "bias"});
  CHECK(names(Norm(4, {.bias = false}, init)) == std::vector<std::string>{"weight"});
  CHECK(names(Norm(4, {.kind = NormKind::rms}, init)) == std::vector<std::string>{"weight"});
  CHECK_THROWS_WITH_AS(Norm(4, {.epsilon = -1}, init), "norm: epsilon -1 is negative", Error);
}

TEST_CASE("feed-forward layers are their formulas") {
  Generator generator(3);
  Initializer init(InitScheme::faithful, 64, 1, generator, in_double());
  const Tensor x = randn({7, 6}, in_double());
  const auto weight = [](const Module& module, std::size_t i) { return module.named_parameters()[i].second; };

  const FeedForward gated(6, {.width = 10}, init);
  CHECK(names(gated) == std::vector<std::string>{"w1.weight", "w2.weight", "w3.weight"});
  const auto through = [&](const Tensor& in, const Tensor& w) { return matmul(in, transpose(w, 0, 1)); };
  check_close(gated.forward(x),
              through(mul(silu(through(x, weight(gated, 0))), through(x, weight(gated, 2))), weight(gated, 1)));
  CHECK(gated.flops(7) == 2 * 7 * gated.parameter_count());

  for (const auto& [kind, form] :
       {std::pair{FeedForwardKind::gelu, Gelu::exact}, std::pair{FeedForwardKind::gelu_tanh, Gelu::tanh}}) {
    const FeedForward plain(6, {.kind = kind, .width = 10}, init);
    CHECK(names(plain) == std::vector<std::string>{"w1.weight", "w2.weight"});
    check_close(plain.forward(x), through(gelu(through(x, weight(plain, 0)), form), weight(plain, 1)));
  }
}

TEST_CASE("feed-forward widths and gates have their defaults") {
  CHECK(FeedForward::inner_width(512, {}) == 1408);  // 1365.3 up to a multiple of 64
  CHECK(FeedForward::inner_width(24, {}) == 64);
  CHECK(FeedForward::inner_width(512, {.kind = FeedForwardKind::gelu}) == 2048);
  CHECK(FeedForward::inner_width(512, {.width = 77}) == 77);

  Generator generator(3);
  Initializer init(InitScheme::faithful, 64, 1, generator);
  const FeedForward ones(8, {.width = 16, .gate_init = GateInit::ones}, init), uniform(8, {.width = 16}, init);
  CHECK(bit_equal(ones.named_parameters()[2].second, Tensor::ones({16, 8})));
  const std::vector<float> gate = uniform.named_parameters()[2].second.to_vector<float>();
  CHECK(*std::max_element(gate.begin(), gate.end()) < 1 / std::sqrt(8.0));
}

TEST_CASE("dropout acts in training mode only") {
  Dropout layer(0.5);
  const Tensor x = Tensor::ones({1000});
  const std::vector<float> y = layer.forward(x).to_vector<float>();
  const auto zeros = std::count(y.begin(), y.end(), 0.0F);
  CHECK(zeros > 400);
  CHECK(zeros < 600);
  CHECK(zeros + std::count(y.begin(), y.end(), 2.0F) == 1000);
  layer.eval();
  CHECK(bit_equal(layer.forward(x), x));
  CHECK(layer.rate() == 0);
  CHECK_THROWS_WITH_AS(Dropout(1), "dropout: probability 1 is not in [0,1)", Error);

  Generator generator(3);
  Initializer init(InitScheme::faithful, 64, 1, generator);
  FeedForward ffn(8, {.dropout = 0.5}, init);
  const Tensor in = randn({50, 8});
  CHECK(!bit_equal(ffn.forward(in), ffn.forward(in)));
  ffn.eval();
  CHECK(bit_equal(ffn.forward(in), ffn.forward(in)));
}
