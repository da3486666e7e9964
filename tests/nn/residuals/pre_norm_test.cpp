#include "nn/residuals/pre_norm.h"

#include "ops/elementwise.h"
#include "tests/support/compare.h"

#include <nlohmann/json.hpp>

using namespace sq;
using namespace sq::test;

TEST_CASE("every residual of the list can be made, keeps shapes, and gives its branch and itself gradients") {
  for (const ResidualEntry* entry : residual_registry()) {
    CAPTURE(entry->name);
    CHECK(&find_residual(entry->name) == entry);
    Generator generator(1);
    Initializer init(InitScheme::scaled, 64, 2, generator, {.dtype = DType::f64});
    const std::unique_ptr<Residual> residual =
        entry->make(entry->normalise(Json::object(), "residual"),
                    {.hidden_size = 6, .num_layers = 2, .layer = 1, .norm = {}}, init);
    const Tensor gain = variable({6}, 2);
    const auto f = [&](const std::vector<Tensor>& in) {
      const auto branch = [&](const Tensor& x) { return mul(tanh(x), gain); };
      return residual->collapse(residual->apply(residual->expand(in[0]), branch));
    };
    std::vector<Tensor> inputs{variable({2, 3, 6}, 3), gain};
    for (const auto& [name, tensor] : residual->named_parameters()) inputs.push_back(tensor);
    CHECK(f(inputs).shape() == Shape{2, 3, 6});
    check_gradients(f, inputs);
  }
}

TEST_CASE("pre_norm adds the branch of the normalised stream, under the names of a norm") {
  Generator generator(1);
  Initializer init(InitScheme::scaled, 64, 2, generator, {.dtype = DType::f64});
  PreNorm residual({}, {.hidden_size = 6, .num_layers = 2, .layer = 0, .norm = {.kind = NormKind::rms}}, init);
  const Norm norm(6, {.kind = NormKind::rms}, init);
  const Tensor x = randn({2, 3, 6}, {.dtype = DType::f64});
  check_close(residual.apply(x, [](const Tensor& h) { return exp(h); }), add(x, exp(norm.forward(x))));
  REQUIRE(residual.named_parameters().size() == 1);
  CHECK(residual.named_parameters()[0].first == "weight");
}

TEST_CASE("an unknown residual is named together with the known ones") {
  CHECK_THROWS_WITH_AS(find_residual("post_norm", "residual.type"),
                       "config: residual.type is 'post_norm' but must be one of pre_norm, weighted", UsageError);
  CHECK_THROWS_WITH_AS(find_residual("pre_norm").normalise(Json{{"keep", 1}}, "residual"),
                       "config: unknown key 'residual.keep' (this has no options)", UsageError);
}
