#include "nn/residuals/weighted.h"

#include "ops/elementwise.h"
#include "tests/support/compare.h"

#include <nlohmann/json.hpp>

using namespace sq;
using namespace sq::test;

TEST_CASE("weighted scales the stream and what the branch adds") {
  Generator generator(1);
  Initializer init(InitScheme::scaled, 64, 2, generator, {.dtype = DType::f64});
  const ResidualContext context{.hidden_size = 6, .num_layers = 2, .layer = 0, .norm = {}};
  WeightedResidual residual({.keep = 0.75, .add = 0.5}, context, init);
  const Norm norm(6, {}, init);
  const Tensor x = randn({2, 3, 6}, {.dtype = DType::f64});
  check_close(residual.apply(x, [](const Tensor& h) { return exp(h); }),
              add(mul(x, 0.75), mul(exp(norm.forward(x)), 0.5)));
  CHECK(residual.named_parameters().size() == 2);
}

TEST_CASE("the options of weighted are completed and checked") {
  const ResidualEntry& entry = find_residual("weighted");
  CHECK(entry.normalise(Json::object(), "residual").dump() == R"({"keep":0.9,"add":0.1})");
  CHECK(entry.normalise(Json{{"add", 2}}, "residual").dump() == R"({"keep":0.9,"add":2.0})");
  CHECK_THROWS_WITH_AS(entry.normalise(Json{{"keep", "all"}}, "residual"),
                       "config: residual.keep is \"all\" but must be a finite number", UsageError);
  CHECK_THROWS_WITH_AS(entry.normalise(Json{{"kep", 1}}, "residual"),
                       "config: unknown key 'residual.kep'; did you mean 'keep'? (known here: keep, add)", UsageError);
}
