#include "ops/swiglu.h"

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

using namespace sq;
using namespace sq::test;

namespace {

Tensor reference(const Tensor& gate, const Tensor& up) {
  std::vector<double> g = gate.to_vector<double>();
  const std::vector<double> u = up.to_vector<double>();
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
  return cast(Tensor::from(g, gate.shape()), gate.dtype());
}

}  // namespace

TEST_CASE("swiglu of values worked out by hand") {
  // silu(ln 3) = ln 3 · 3/4; silu(-1000) = 0 without overflow; silu(1000) = 1000
  const Tensor y = swiglu(Tensor::from<double>({std::log(3), -1000, 1000}, {3}), Tensor::from<double>({4, 5, 2}, {3}));
  CHECK(y.to_vector<double>()[0] == doctest::Approx(3 * std::log(3)));
  CHECK(y.to_vector<double>()[1] == 0);
  CHECK(y.to_vector<double>()[2] == 2000);
}

TEST_CASE("swiglu equals the reference in every dtype and on odd shapes") {
  const Poison poison;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
    for (const Shape& shape : {Shape{}, Shape{1, 1}, Shape{3, 63}, Shape{2, 5, 127}, Shape{0, 4}, Shape{4, 0}}) {
      CAPTURE(to_string(shape));
      const Tensor gate = cast(randn(shape), dtype), up = cast(randn(shape), dtype);
      check_close(swiglu(gate, up), reference(gate, up));
    }
}

TEST_CASE("swiglu reads slices and transposed tensors") {
  const Tensor wide = randn({6, 5, 40});
  const Tensor gate = wide.alias({6, 5, 20}, {200, 40, 1}, 0), up = wide.alias({6, 5, 20}, {200, 40, 1}, 20);
  check_close(swiglu(gate, up), reference(gate, up));
  const Tensor turned = wide.alias({20, 5, 6}, {1, 40, 200}, 0), every_second = wide.alias({20, 5, 6}, {2, 40, 200}, 0);
  check_close(swiglu(turned, every_second), reference(turned, every_second));
  const Tensor broadcast = wide.alias({6, 5, 20}, {0, 0, 1}, 3);
  check_close(swiglu(gate, broadcast), reference(gate, broadcast));
}

TEST_CASE("swiglu has the right gradients") {
  const auto f = [](const std::vector<Tensor>& in) { return swiglu(in[0], in[1]); };
  check_gradients(f, {variable({3, 7}, 1), variable({3, 7}, 2)});
  check_gradients(f, {variable({41}, 3), variable({41}, 4)});
  // One tensor in both places: its gradients add up.
  check_gradients([](const std::vector<Tensor>& in) { return swiglu(in[0], in[0]); }, {variable({5})});
}

TEST_CASE("swiglu equals its composition of small operations") {
  check_same_function([](const std::vector<Tensor>& in) { return swiglu(in[0], in[1]); },
                      [](const std::vector<Tensor>& in) { return swiglu_composed(in[0], in[1]); },
                      {variable({21, 37}, 1), variable({21, 37}, 2)});
}

TEST_CASE("swiglu gives the same bits for any thread count") {
  const Tensor gate = randn({300, 111}), up = randn({300, 111}), dy = randn({300, 111});
  check_same_bits_for_any_thread_count([&] {
    const Tensor g = packed_copy(gate), u = packed_copy(up);
    set_requires_grad(g);
    set_requires_grad(u);
    const Tensor y = swiglu(g, u);
    backward(y, dy);
    return std::vector<Tensor>{y, grad(g), grad(u)};
  });
}

TEST_CASE("swiglu says what is wrong" * doctest::test_suite("cpu")) {
  CHECK_THROWS_WITH_AS(swiglu(Tensor::zeros({2, 3}), Tensor::zeros({3, 2})),
                       "swiglu: gate f32[2,3]@cpu and up f32[3,2]@cpu differ in shape", Error);
  CHECK_THROWS_AS(swiglu(Tensor::zeros({2}), Tensor::zeros({2}, {.dtype = DType::f64})), Error);
  CHECK_THROWS_WITH_AS(swiglu(Tensor::arange(2), Tensor::arange(2)),
                       "swiglu: dtype i64 is not supported; use f32 or f64", Error);
}
