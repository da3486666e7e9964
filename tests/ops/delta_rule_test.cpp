#include "ops/delta_rule.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/support/composed.h"
#include "tests/support/delta_rule_chunks.h"
#include "tests/support/threads.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace sq;
using namespace sq::test;

namespace {

enum class Decay { none, of_all, by_row };
constexpr std::array kDecays{Decay::none, Decay::of_all, Decay::by_row};

struct Inputs {
  Tensor q, k, v, beta, log_decay, first_state;

  DeltaRuleResult run(double scale = 0) const {
    return delta_rule(q, k, v, beta, {.scale = scale, .log_decay = log_decay, .first_state = first_state});
  }
  /// f(tensor) of all that are given.
  template <class F>
  Inputs mapped(F f) const {
    const auto each = [&](const Tensor& x) { return x.defined() ? f(x) : x; };
    return {each(q), each(k), each(v), each(beta), each(log_decay), each(first_state)};
  }
  Inputs part(std::int64_t begin, std::int64_t end, const Tensor& state) const {
    const auto cut = [=](const Tensor& x) { return x.defined() ? slice(x, 2, begin, end) : x; };
    return {cut(q), cut(k), cut(v), cut(beta), cut(log_decay), state};
  }
  std::vector<Tensor> given() const {
    std::vector<Tensor> tensors{q, k, v, beta};
    for (const Tensor& t : {log_decay, first_state})
      if (t.defined()) tensors.push_back(t);
    return tensors;
  }
  /// `tensors` in the places of those that are given.
  Inputs with(const std::vector<Tensor>& tensors) const {
    return {tensors[0],
            tensors[1],
            tensors[2],
            tensors[3],
            log_decay.defined() ? tensors[4] : Tensor(),
            first_state.defined() ? tensors.back() : Tensor()};
  }
};

/// Keys of length 1, strengths between 0 and 2, decays between 0 and `strongest`.
Inputs random_inputs(Shape heads, std::int64_t width, std::int64_t value_width, Decay decay, bool state,
                     DType dtype = DType::f64, double strongest = -1) {
  const TensorOptions options{.dtype = dtype};
  const std::int64_t batch = heads[0], count = heads[1], positions = heads[2];
  const Tensor k = randn({batch, count, positions, width}, options);
  Inputs in{randn({batch, count, positions, width}, options),
            k / sqrt(sum(k * k, {-1}, true)),
            randn({batch, count, positions, value_width}, options),
            rand(heads, options) * 2,
            {},
            {}};
  if (decay == Decay::of_all) in.log_decay = rand(heads, options) * strongest;
  if (decay == Decay::by_row) in.log_decay = rand({batch, count, positions, width}, options) * strongest;
  if (state) in.first_state = randn({batch, count, width, value_width}, options);
  return in;
}

/// One position after the other: S ← e^g S, then S ← S + β k (v - Sᵀ k)ᵀ, y = s Sᵀ q.
DeltaRuleResult step_by_step(const Inputs& in, double scale) {
  const std::int64_t batch = in.q.size(0), heads = in.q.size(1), width = in.q.size(3);
  Tensor state =
      in.first_state.defined() ? in.first_state : Tensor::zeros({batch, heads, width, in.v.size(3)}, in.q.options());
  std::vector<Tensor> rows;
  for (std::int64_t t = 0; t < in.q.size(2); ++t) {
    const Inputs at = in.part(t, t + 1, {});
    if (in.log_decay.defined())
      state = state * reshape(exp(at.log_decay), {batch, heads, in.log_decay.rank() == 4 ? width : 1, 1});
    const Tensor update = unsqueeze(at.beta, -1) * (at.v - matmul(at.k, state));
    state = state + matmul(transpose(at.k, 2, 3), update);
    rows.push_back(matmul(at.q, state) * scale);
  }
  return {concat(rows, 2), state};
}

/// Both results in one, so that the gradients of both are tested at once.
Tensor both(const DeltaRuleResult& result) { return concat({reshape(result.y, {-1}), reshape(result.state, {-1})}, 0); }

/// Values and gradients in one, for comparisons where some of them are 0 up to the rounding of the others.
Tensor all_of(const Inputs& in, const std::function<Tensor(const Inputs&)>& run) {
  std::vector<Tensor> leaves, values;
  for (const Tensor& given : in.given()) {
    leaves.push_back(packed_copy(given));
    set_requires_grad(leaves.back());
  }
  const Tensor y = run(in.with(leaves));
  Generator generator(5);
  backward(y, randn(y.shape(), y.options(), generator));
  values.push_back(reshape(detach(y), {-1}));
  for (const Tensor& leaf : leaves)
    values.push_back(reshape(grad(leaf).defined() ? grad(leaf) : Tensor::zeros_like(leaf), {-1}));
  return concat(values, 0);
}

void check_equals_recurrence(const Inputs& in, double scale = 0.5) {
  check_same_function([&](const std::vector<Tensor>& t) { return both(in.with(t).run(scale)); },
                      [&](const std::vector<Tensor>& t) { return both(step_by_step(in.with(t), scale)); }, in.given());
}

}  // namespace

TEST_CASE("delta_rule: three positions by hand") {
  const auto row = [](std::vector<double> values) { return Tensor::from(values, {1, 1, 3, 1}); };
  const Tensor q = row({1, 2, 3}), k = row({1, 1, 2}), v = row({5, 7, 11});
  const Tensor beta = Tensor::from<double>({1, 0.5, 0.25}, {1, 1, 3});
  // updates 5, (7 - 5)/2 = 1, (11 - 2·6)/4 = -1/4; states 5, 6, 6 - 2/4
  const auto plain = delta_rule(q, k, v, beta);
  check_close(plain.y, row({5, 12, 16.5}));
  check_close(plain.state, Tensor::full({1, 1, 1, 1}, 5.5, {.dtype = DType::f64}));
  // states 4/2 + 3, 5/2 + 2.25, 4.75/2 + 2·1.5625
  const auto decayed = delta_rule(q, k, v, beta,
                                  {.scale = 2,
                                   .log_decay = Tensor::full({1, 1, 3}, std::log(0.5), {.dtype = DType::f64}),
                                   .first_state = Tensor::full({1, 1, 1, 1}, 4, {.dtype = DType::f64})});
  check_close(decayed.y, row({10, 19, 33}));
}

TEST_CASE("delta_rule equals its recurrence, gradients included") {
  const Poison poison;
  for (const Decay decay : kDecays) {
    CAPTURE(static_cast<int>(decay));
    for (const std::int64_t positions : {1, 5, 63, 64, 65}) {
      CAPTURE(positions);
      check_equals_recurrence(random_inputs({1, 2, positions}, 4, 7, decay, positions != 64));
    }
    check_equals_recurrence(random_inputs({2, 1, 33}, 1, 1, decay, true));
    check_equals_recurrence(random_inputs({1, 1, 20}, 70, 35, decay, true));
    check_equals_recurrence(random_inputs({1, 1, 130}, 17, 3, decay, true));
    check_equals_recurrence(random_inputs({1, 1, 130}, 5, 18, decay, false));
  }
}

TEST_CASE("delta_rule equals the same formulas in other chunks") {
  const Inputs in = random_inputs({1, 2, 70}, 5, 6, Decay::of_all, true);
  for (const std::int64_t chunk : {16, 27}) {
    CAPTURE(chunk);
    check_same_function([&](const std::vector<Tensor>& t) { return both(in.with(t).run(0.5)); },
                        [&](const std::vector<Tensor>& t) {
                          std::vector<Tensor> rows;
                          const auto chunks = delta_rule_chunks({t[0], t[1], t[2], t[3], t[4], t[5]}, 0.5, chunk);
                          for (const DeltaChunk& one : chunks) rows.push_back(one.y);
                          return both({concat(rows, 2), chunks.back().state});
                        },
                        in.given());
  }
}

TEST_CASE("delta_rule has the right gradients, also of one of its results alone") {
  for (const Decay decay : kDecays) {
    const Inputs in = random_inputs({1, 1, 10}, 2, 3, decay, true);
    std::vector<Tensor> leaves = in.given();
    for (Tensor& leaf : leaves) {
      leaf = packed_copy(leaf);
      set_requires_grad(leaf);
    }
    check_gradients([&](const std::vector<Tensor>& t) { return both(in.with(t).run()); }, leaves);
  }
  const Inputs in = random_inputs({1, 2, 70}, 3, 3, Decay::of_all, true, DType::f64, -0.05);
  for (const bool of_state : {false, true}) {
    const auto one = [&](const DeltaRuleResult& result) { return of_state ? result.state : result.y; };
    check_close(all_of(in, [&](const Inputs& x) { return one(x.run(2)); }),
                all_of(in, [&](const Inputs& x) { return one(step_by_step(x, 2)); }));
  }
}

TEST_CASE("delta_rule takes every float dtype and any strides") {
  const Poison poison;
  for (const Decay decay : kDecays) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(name(dtype));
      const Inputs in = random_inputs({2, 3, 100}, 8, 5, decay, true, dtype);
      const auto got = in.run();
      const auto want = in.mapped([](const Tensor& x) { return cast(x, DType::f64); }).run();
      CHECK(got.y.dtype() == dtype);
      CHECK(relative_error(got.y, want.y) <= tolerance(dtype));
      CHECK(relative_error(got.state, want.state) <= tolerance(dtype));
    }
    const Inputs in = random_inputs({2, 3, 70}, 8, 5, decay, true);
    const auto strided = [](const Tensor& x) {
      return transpose(packed_copy(transpose(x, 1, x.rank() - 1)), 1, x.rank() - 1);
    };
    check_close(both(in.mapped(strided).run()), both(in.run()));
  }
}

TEST_CASE("delta_rule of a sequence in parts, the state handed on, equals the whole") {
  for (const Decay decay : kDecays) {
    const Inputs in = random_inputs({1, 2, 150}, 8, 5, decay, true);
    const auto whole = in.run();
    for (const std::int64_t cut : {0, 1, 37, 64, 128, 149, 150}) {
      CAPTURE(cut);
      const auto first = in.part(0, cut, in.first_state).run(), second = in.part(cut, 150, first.state).run();
      check_close(concat({first.y, second.y}, 2), whole.y);
      check_close(second.state, whole.state);
    }
  }
}

TEST_CASE("delta_rule: what β = 1 writes is read back, β = 0 writes nothing") {
  const Inputs in = random_inputs({1, 1, 80}, 6, 4, Decay::none, true);
  const auto written = delta_rule(in.k, in.k, in.v, Tensor::ones({1, 1, 80}, in.q.options()), {.scale = 1});
  check_close(written.y, in.v);
  const auto nothing = delta_rule(in.q, in.k, in.v, Tensor::zeros({1, 1, 80}, in.q.options()),
                                  {.scale = 1, .first_state = in.first_state});
  check_close(nothing.state, in.first_state);
  check_close(nothing.y, matmul(in.q, in.first_state));
}

TEST_CASE("delta_rule: strong decays stay finite and right") {
  for (const Decay decay : {Decay::of_all, Decay::by_row})
    for (const double strongest : {-5.0, -50.0, -2000.0}) {
      CAPTURE(static_cast<int>(decay));
      CAPTURE(strongest);
      const Inputs wide = random_inputs({1, 1, 130}, 4, 3, decay, true, DType::f64, strongest);
      check_close(all_of(wide, [](const Inputs& in) { return both(in.run(0.5)); }),
                  all_of(wide, [](const Inputs& in) { return both(step_by_step(in, 0.5)); }));
      const Inputs in = random_inputs({1, 1, 130}, 4, 3, decay, true, DType::f32, strongest);
      const auto want = in.mapped([](const Tensor& x) { return cast(x, DType::f64); }).run();
      CHECK(relative_error(in.run().y, want.y) <= 1e-4);  // b is a sum of large numbers
    }
}

TEST_CASE("delta_rule: nothing after a position reaches it, and the bits do not depend on threads") {
  for (const Decay decay : kDecays) {
    const Inputs in = random_inputs({1, 2, 140}, 6, 36, decay, false, DType::f32);
    const Tensor before = in.run().y;
    const auto changed = [&](double value) {
      Inputs later = in.mapped([](const Tensor& x) { return packed_copy(x); });
      for (Tensor* x : {&later.k, &later.v}) {
        Tensor tail = x->alias({1, 2, 40, x->size(3)}, x->strides(), 100 * x->size(3));
        fill_(tail, value);
      }
      return slice(later.run().y, 2, 0, 100);
    };
    CHECK(bit_equal(changed(0.3), slice(before, 2, 0, 100)));
    check_close(changed(std::numeric_limits<double>::quiet_NaN()), slice(before, 2, 0, 100));
    check_same_bits_for_any_thread_count([&]() -> std::vector<Tensor> {
      const std::vector<Tensor> leaves = in.mapped([](const Tensor& x) {
                                             Tensor leaf = packed_copy(x);
                                             set_requires_grad(leaf);
                                             return leaf;
                                           }).given();
      const auto result = in.with(leaves).run();
      const Tensor all = both(result);
      backward(all, Tensor::ones(all.shape()));
      std::vector<Tensor> bits{detach(result.y), detach(result.state)};
      for (const Tensor& leaf : leaves) bits.push_back(grad(leaf));
      return bits;
    });
  }
}

TEST_CASE("delta_rule on no positions keeps the state") {
  const Tensor none = Tensor::zeros({1, 2, 0, 3}), beta = Tensor::zeros({1, 2, 0}), state = randn({1, 2, 3, 3});
  set_requires_grad(state);
  const auto result = delta_rule(none, none, none, beta, {.first_state = state});
  CHECK(result.y.shape() == Shape{1, 2, 0, 3});
  CHECK(result.state.to_vector<float>() == state.to_vector<float>());
  backward(result.state, Tensor::full({1, 2, 3, 3}, 2));
  CHECK(grad(state).to_vector<float>() == std::vector<float>(18, 2));
  CHECK(sum(delta_rule(none, none, none, beta).state).item() == 0);
}

TEST_CASE("delta_rule says what does not fit" * doctest::test_suite("cpu")) {
  const Tensor q = randn({1, 2, 5, 4}), v = randn({1, 2, 5, 3}), beta = randn({1, 2, 5});
  CHECK_THROWS_WITH_AS(delta_rule(beta, beta, beta, beta),
                       "delta_rule: q f32[1,2,5]@cpu, k f32[1,2,5]@cpu, v f32[1,2,5]@cpu must have the axes [B,H,T,D]",
                       Error);
  CHECK_THROWS_WITH_AS(delta_rule(q, randn({1, 1, 5, 4}), randn({1, 1, 5, 3}), beta),
                       "delta_rule: q f32[1,2,5,4]@cpu and k f32[1,1,5,4]@cpu must have one shape [B,H,T,K]", Error);
  CHECK_THROWS_WITH_AS(delta_rule(q, q, randn({1, 2, 4, 3}), beta),
                       "delta_rule: k f32[1,2,5,4]@cpu and v f32[1,2,4,3]@cpu differ in heads or positions", Error);
  CHECK_THROWS_WITH_AS(delta_rule(q, q, v, randn({1, 2, 4})),
                       "delta_rule: beta f32[1,2,4]@cpu must be [B,H,T] for q f32[1,2,5,4]@cpu", Error);
  CHECK_THROWS_WITH_AS(delta_rule(q, q, v, beta, {.log_decay = randn({1, 2, 4})}),
                       "delta_rule: log_decay f32[1,2,4]@cpu must be [B,H,T] or [B,H,T,K] for q f32[1,2,5,4]@cpu",
                       Error);
  CHECK_THROWS_WITH_AS(
      delta_rule(q, q, v, beta, {.first_state = randn({1, 2, 3, 4})}),
      "delta_rule: first_state f32[1,2,3,4]@cpu must be [B,H,K,V] for q f32[1,2,5,4]@cpu and v f32[1,2,5,3]@cpu",
      Error);
  CHECK_THROWS_WITH_AS(delta_rule(q, q, v, cast(beta, DType::f64)),
                       "delta_rule: f32[1,2,5,4]@cpu and f64[1,2,5]@cpu differ in dtype or device; cast or move one of "
                       "them",
                       Error);
  CHECK_THROWS_WITH_AS(delta_rule(q, q, v, beta, {.scale = INFINITY}), "delta_rule: scale inf is not finite", Error);
}
