#include "ops/linear_attention.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tests/support/composed.h"
#include "tests/support/threads.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace sq;
using namespace sq::test;

namespace {

enum class Decay { none, of_all, by_row };

struct Inputs {
  Tensor q, k, v, log_decay, first_state;
  LinearAttentionOptions options(double scale = 0) const { return {scale, log_decay, first_state}; }
};

/// Decays between 0 and about -1.
Inputs random_inputs(std::int64_t batch, std::int64_t heads, std::int64_t positions, std::int64_t width,
                     std::int64_t value_width, Decay decay, bool state, DType dtype = DType::f64) {
  Inputs in{randn({batch, heads, positions, width}, {.dtype = dtype}),
            randn({batch, heads, positions, width}, {.dtype = dtype}),
            randn({batch, heads, positions, value_width}, {.dtype = dtype}),
            {},
            {}};
  if (decay == Decay::of_all) in.log_decay = mul(rand({batch, heads, positions}, {.dtype = dtype}), -1);
  if (decay == Decay::by_row) in.log_decay = mul(rand({batch, heads, positions, width}, {.dtype = dtype}), -1);
  if (state) in.first_state = randn({batch, heads, width, value_width}, {.dtype = dtype});
  return in;
}

/// One position after the other: S ← e^g S + k vᵀ, y = s Sᵀ q.
LinearAttentionResult step_by_step(const Inputs& in, double scale) {
  const std::int64_t positions = in.q.size(2);
  Tensor state = in.first_state.defined()
                     ? in.first_state
                     : Tensor::zeros({in.q.size(0), in.q.size(1), in.q.size(3), in.v.size(3)}, in.q.options());
  std::vector<Tensor> rows;
  for (std::int64_t t = 0; t < positions; ++t) {
    const auto at = [t](const Tensor& x) { return slice(x, 2, t, t + 1); };
    if (in.log_decay.defined()) {
      const Tensor kept = exp(at(in.log_decay));
      state = mul(state, kept.rank() == 4 ? transpose(kept, 2, 3) : unsqueeze(kept, -1));
    }
    state = add(state, matmul(transpose(at(in.k), 2, 3), at(in.v)));
    rows.push_back(mul(matmul(at(in.q), state), scale));
  }
  return {concat(rows, 2), state};
}

std::vector<Tensor> given(const Inputs& in) {
  std::vector<Tensor> tensors{in.q, in.k, in.v};
  for (const Tensor& t : {in.log_decay, in.first_state})
    if (t.defined()) tensors.push_back(t);
  return tensors;
}

Inputs inputs_of(const std::vector<Tensor>& tensors, bool decay, bool state) {
  return {tensors[0], tensors[1], tensors[2], decay ? tensors[3] : Tensor(), state ? tensors.back() : Tensor()};
}

/// A scalar-like mixture of both results, so that the gradients of both are tested at once.
Tensor both(const LinearAttentionResult& result) {
  return concat({reshape(result.y, {-1}), reshape(result.state, {-1})}, 0);
}

}  // namespace

TEST_CASE("linear_attention: three positions by hand") {
  const Tensor q = Tensor::from<float>({1, 2, 3}, {1, 1, 3, 1}), k = Tensor::from<float>({1, 1, 2}, {1, 1, 3, 1});
  const Tensor v = Tensor::from<float>({5, 7, 11}, {1, 1, 3, 1});
  // states 5, 12, 34
  CHECK(linear_attention(q, k, v).y.to_vector<float>() == std::vector<float>{5, 24, 102});
  CHECK(linear_attention(q, k, v).state.to_vector<float>() == std::vector<float>{34});
  const Tensor halves = Tensor::full({1, 1, 3}, std::log(0.5));
  // states 0.5·4 + 5 = 7, 3.5 + 7 = 10.5, 5.25 + 22 = 27.25
  const auto result =
      linear_attention(q, k, v, {.scale = 2, .log_decay = halves, .first_state = Tensor::full({1, 1, 1, 1}, 4)});
  CHECK(result.y.to_vector<float>() == std::vector<float>{14, 42, 163.5});
  CHECK(result.state.item() == doctest::Approx(27.25));
}

TEST_CASE("linear_attention equals its recurrence, gradients included") {
  const Poison poison;
  for (const std::int64_t positions : {1, 5, 63, 64, 65, 130})
    for (const auto& widths : {std::pair<std::int64_t, std::int64_t>{1, 1}, {4, 7}, {17, 3}, {70, 16}})
      for (const Decay decay : {Decay::none, Decay::of_all, Decay::by_row})
        for (const bool state : {false, true}) {
          const std::int64_t width = widths.first, value_width = widths.second;
          if (positions > 65 && width == 17) continue;
          if (decay == Decay::by_row && (positions == 64 || width == 1)) continue;
          CAPTURE(positions);
          CAPTURE(width);
          CAPTURE(static_cast<int>(decay));
          CAPTURE(state);
          const Inputs in = random_inputs(1, 2, positions, width, value_width, decay, state);
          const double scale = 0.5;
          check_same_function(
              [&](const std::vector<Tensor>& t) {
                const Inputs leaves = inputs_of(t, decay != Decay::none, state);
                return both(linear_attention(leaves.q, leaves.k, leaves.v, leaves.options(scale)));
              },
              [&](const std::vector<Tensor>& t) {
                return both(step_by_step(inputs_of(t, decay != Decay::none, state), scale));
              },
              given(in));
        }
}

TEST_CASE("linear_attention has the right gradients") {
  for (const Decay decay : {Decay::of_all, Decay::by_row}) {
    const Inputs in = random_inputs(1, 1, decay == Decay::of_all ? 66 : 10, 2, 3, decay, true);
    std::vector<Tensor> leaves = given(in);
    for (Tensor& leaf : leaves) set_requires_grad(leaf);
    check_gradients(
        [](const std::vector<Tensor>& t) {
          const Inputs leaves = inputs_of(t, true, true);
          return both(linear_attention(leaves.q, leaves.k, leaves.v, leaves.options()));
        },
        leaves);
  }
}

TEST_CASE("linear_attention takes every float dtype, any strides, and sequences in parts") {
  const Poison poison;
  for (const Decay decay : {Decay::of_all, Decay::by_row}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(name(dtype));
      const Inputs in = random_inputs(2, 3, 100, 8, 5, decay, true, dtype);
      const Inputs wide{cast(in.q, DType::f64), cast(in.k, DType::f64), cast(in.v, DType::f64),
                        cast(in.log_decay, DType::f64), cast(in.first_state, DType::f64)};
      const auto got = linear_attention(in.q, in.k, in.v, in.options());
      const auto want = linear_attention(wide.q, wide.k, wide.v, wide.options());
      CHECK(got.y.dtype() == dtype);
      CHECK(relative_error(got.y, want.y) <= tolerance(dtype));
      CHECK(relative_error(got.state, want.state) <= tolerance(dtype));
    }
    const Inputs in = random_inputs(2, 3, 150, 8, 5, decay, false);
    const auto strided = [](const Tensor& x) { return transpose(packed_copy(transpose(x, 1, 2)), 1, 2); };
    const auto whole = linear_attention(in.q, in.k, in.v, in.options());
    check_close(linear_attention(strided(in.q), strided(in.k), strided(in.v), {.log_decay = strided(in.log_decay)}).y,
                whole.y);
    const auto part = [&](std::int64_t begin, std::int64_t end, const Tensor& state) {
      return linear_attention(slice(in.q, 2, begin, end), slice(in.k, 2, begin, end), slice(in.v, 2, begin, end),
                              {.log_decay = slice(in.log_decay, 2, begin, end), .first_state = state});
    };
    const auto first = part(0, 37, {}), second = part(37, 150, first.state);
    check_close(concat({first.y, second.y}, 2), whole.y);
    check_close(second.state, whole.state);
  }
}

TEST_CASE("linear_attention: strong decays of single rows stay finite and right") {
  for (const double strongest : {-5.0, -50.0, -2000.0}) {
    CAPTURE(strongest);
    Inputs in = random_inputs(1, 1, 130, 4, 3, Decay::by_row, true, DType::f32);
    in.log_decay = mul(in.log_decay, -strongest);
    const Inputs wide{cast(in.q, DType::f64), cast(in.k, DType::f64), cast(in.v, DType::f64),
                      cast(in.log_decay, DType::f64), cast(in.first_state, DType::f64)};
    const auto got = linear_attention(in.q, in.k, in.v, in.options(0.5)), want = step_by_step(wide, 0.5);
    CHECK(relative_error(got.y, want.y) <= tolerance(DType::f32));
    CHECK(relative_error(got.state, want.state) <= tolerance(DType::f32));
  }
}

TEST_CASE("linear_attention: nothing after a position reaches it, and the bits do not depend on threads") {
  const Inputs in = random_inputs(1, 2, 140, 6, 4, Decay::of_all, false, DType::f32);
  const Tensor before = linear_attention(in.q, in.k, in.v, in.options()).y;
  Tensor k = packed_copy(in.k), v = packed_copy(in.v);
  for (Tensor* x : {&k, &v}) {
    Tensor later = x->alias({1, 2, 40, x->size(3)}, x->strides(), 100 * x->size(3));
    fill_(later, std::numeric_limits<double>::quiet_NaN());
  }
  const Tensor after = linear_attention(in.q, k, v, in.options()).y;
  CHECK(slice(after, 2, 0, 100).to_vector<float>() == slice(before, 2, 0, 100).to_vector<float>());
  check_same_bits_for_any_thread_count(
      [&]() -> std::vector<Tensor> { return {linear_attention(in.q, in.k, in.v, in.options()).y}; });
}

TEST_CASE("linear_attention on no positions keeps the state") {
  const Tensor none = Tensor::zeros({1, 2, 0, 3}), state = randn({1, 2, 3, 3});
  const auto result = linear_attention(none, none, none, {.first_state = state});
  CHECK(result.y.shape() == Shape{1, 2, 0, 3});
  CHECK(result.state.to_vector<float>() == state.to_vector<float>());
  CHECK(sum(linear_attention(none, none, none).state).item() == 0);
}

TEST_CASE("linear_attention refuses what does not fit") {
  const Tensor q = randn({1, 2, 5, 4}), v = randn({1, 2, 5, 3});
  CHECK_THROWS_AS(linear_attention(q, randn({1, 1, 5, 4}), randn({1, 1, 5, 3})), Error);
  CHECK_THROWS_AS(linear_attention(q, q, randn({1, 2, 4, 3})), Error);
  CHECK_THROWS_AS(linear_attention(q, q, v, {.log_decay = randn({1, 2, 4})}), Error);
  CHECK_THROWS_AS(linear_attention(q, q, v, {.first_state = randn({1, 2, 3, 4})}), Error);
  CHECK_THROWS_AS(linear_attention(q, q, cast(v, DType::f64)), Error);
}
