#include "ops/dense_attention.h"

#include "tensor/cpu/threads.h"
#include "tests/support/attention.h"

using namespace sq;
using namespace sq::test;

namespace {

/// Which keys a query sees, from the definition.
Graph graph_of(std::int64_t queries, std::int64_t keys, const DenseAttentionOptions& options) {
  const std::vector<std::int64_t> lengths =
      options.lengths.defined() ? options.lengths.to_vector<std::int64_t>() : std::vector<std::int64_t>();
  return [=](std::int64_t b, std::int64_t i) {
    std::vector<std::int64_t> list;
    const std::int64_t position = i + keys - queries;
    for (std::int64_t j = 0; j < keys; ++j) {
      if (options.causal && j > position) continue;
      if (options.window > 0 && j <= position - options.window) continue;
      if (!lengths.empty() && j >= lengths[static_cast<std::size_t>(b)]) continue;
      list.push_back(j);
    }
    return list;
  };
}

struct Sizes {
  std::int64_t batch = 1, heads = 1, kv_heads = 1, queries = 5, keys = 5, width = 4, value_width = 4;
};

void check_against_reference(const Sizes& s, const DenseAttentionOptions& options, TensorOptions kind = {}) {
  CAPTURE(s.heads);
  CAPTURE(s.kv_heads);
  CAPTURE(s.queries);
  CAPTURE(s.keys);
  CAPTURE(s.width);
  CAPTURE(options.causal);
  CAPTURE(options.window);
  const Tensor q = randn_heads(s.batch, s.heads, s.queries, s.width, kind);
  const Tensor k = randn_heads(s.batch, s.kv_heads, s.keys, s.width, kind);
  const Tensor v = randn_heads(s.batch, s.kv_heads, s.keys, s.value_width, kind);
  const Tensor dy = randn_heads(s.batch, s.heads, s.queries, s.value_width, kind);
  const AttentionResult result = attention_result(
      [&](const Tensor& a, const Tensor& b, const Tensor& c) { return dense_attention(a, b, c, options); }, q, k, v,
      dy);
  check_close(result, attention_reference(q, k, v, graph_of(s.queries, s.keys, options), dy, options.scale));
}

Tensor times(const Tensor& x, double factor) {
  std::vector<double> values = x.to_vector<double>();
  for (double& value : values) value *= factor;
  return cast(Tensor::from(values, x.shape()), x.dtype());
}

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v) { return dense_attention(q, k, v); }

}  // namespace

TEST_CASE("dense_attention of two positions worked out by hand") {
  // scores of the second query: 0 and log 3 with scale 1, so weights 1/4 and 3/4
  const Tensor q = Tensor::from<double>({5, 1}, {1, 1, 2, 1}), k = Tensor::from<double>({0, std::log(3)}, {1, 1, 2, 1});
  const Tensor v = Tensor::from<double>({8, 4}, {1, 1, 2, 1});
  const std::vector<double> y = dense_attention(q, k, v, {.scale = 1}).to_vector<double>();
  CHECK(y[0] == doctest::Approx(8));
  CHECK(y[1] == doctest::Approx(5));
}

TEST_CASE("dense_attention equals the reference, gradients included, on odd lengths and widths") {
  const Poison poison;
  for (const std::int64_t length : {1, 7, 63, 64, 65, 131})
    check_against_reference(
        {.batch = 2, .heads = 2, .kv_heads = 2, .queries = length, .keys = length, .width = 8, .value_width = 8}, {});
  for (const std::int64_t width : {1, 3, 16, 33, 64, 80})
    check_against_reference({.queries = 70, .keys = 70, .width = width, .value_width = width + 2}, {});
  check_against_reference({.heads = 2, .queries = 67, .keys = 67, .width = 20, .value_width = 5}, {},
                          {.dtype = DType::f64});
}

TEST_CASE("dense_attention shares key/value heads among groups of query heads") {
  const Poison poison;
  for (const std::int64_t kv_heads : {1, 2, 4}) {
    check_against_reference(
        {.batch = 2, .heads = 4, .kv_heads = kv_heads, .queries = 66, .keys = 66, .width = 8, .value_width = 8}, {});
    check_against_reference({.heads = 4, .kv_heads = kv_heads, .queries = 2, .keys = 9, .width = 8, .value_width = 8},
                            {});
  }
}

TEST_CASE("dense_attention aligns queries with the last keys, and with fewer keys leaves the first queries empty") {
  const Poison poison;
  for (const bool causal : {true, false})
    for (const auto& [queries, keys] :
         {std::pair<std::int64_t, std::int64_t>{1, 300}, {3, 530}, {20, 150}, {70, 200}, {200, 70}, {5, 3}, {130, 400}})
      check_against_reference(
          {.heads = 2, .kv_heads = 1, .queries = queries, .keys = keys, .width = 8, .value_width = 6},
          {.causal = causal, .scale = 0.3});
}

TEST_CASE("dense_attention leaves out what windows and lengths exclude") {
  const Poison poison;
  for (const std::int64_t window : {1, 5, 64, 100, 1000})
    for (const bool causal : {true, false}) {
      check_against_reference({.heads = 2, .queries = 150, .keys = 150, .width = 8, .value_width = 8},
                              {.causal = causal, .window = window});
      check_against_reference({.queries = 3, .keys = 290, .width = 8, .value_width = 8},
                              {.causal = causal, .window = window});
    }
  const Tensor lengths = Tensor::from<std::int64_t>({0, 70, 131}, {3});
  for (const bool causal : {true, false}) {
    check_against_reference({.batch = 3, .queries = 131, .keys = 131, .width = 8, .value_width = 8},
                            {.causal = causal, .lengths = lengths});
    check_against_reference({.batch = 3, .queries = 1, .keys = 131, .width = 8, .value_width = 8},
                            {.causal = causal, .lengths = cast(lengths, DType::i32), .window = 40});
  }
}

TEST_CASE("dense_attention has the right gradients") {
  for (const std::int64_t kv_heads : {1, 2})
    for (const auto& options : {DenseAttentionOptions{},
                                {.causal = false, .scale = 0.7},
                                {.window = 2},
                                {.causal = false, .lengths = Tensor::from<std::int64_t>({3, 5}, {2})}})
      check_gradients([&](const std::vector<Tensor>& in) { return dense_attention(in[0], in[1], in[2], options); },
                      {variable({2, 2, 4, 3}, 1), variable({2, kv_heads, 5, 3}, 2), variable({2, kv_heads, 5, 2}, 3)});
}

TEST_CASE("dense_attention drops weights as the generator says, keeps their mean and differentiates what it did") {
  const auto with_dropout = [](const std::vector<Tensor>& in) {
    default_generator() = Generator(5, 3);
    return dense_attention(in[0], in[1], in[2], {.dropout = 0.4});
  };
  check_gradients(with_dropout, {variable({2, 2, 5, 3}, 1), variable({2, 1, 5, 3}, 2), variable({2, 1, 5, 2}, 3)});
  // One head of equal scores without causal order: y is the mean of kept values / (1-p), around 1.
  const Tensor zeros = Tensor::zeros({1, 1, 300, 4}), ones = Tensor::ones({1, 1, 300, 4});
  default_generator() = Generator(1);
  const auto y = dense_attention(zeros, zeros, ones, {.causal = false, .dropout = 0.3}).to_vector<double>();
  double mean = 0, least = 2, most = 0;
  for (const double value : y) {
    mean += value / static_cast<double>(y.size());
    least = std::min(least, value);
    most = std::max(most, value);
  }
  CHECK(mean == doctest::Approx(1).epsilon(0.01));
  CHECK(most - least > 0.05);
  CHECK(default_generator().next_stream == 1);
}

TEST_CASE("dense_attention drops the weight whose number the header names") {
  const std::int64_t batch = 2, heads = 3, queries = 4, keys = 7;
  const Tensor q = Tensor::zeros({batch, heads, queries, 2}), k = Tensor::zeros({batch, heads, keys, 2});
  const Tensor v = Tensor::zeros({batch, heads, keys, keys});
  Tensor diagonal = v.alias({batch * heads, keys}, {keys * keys, keys + 1}, 0);  // the identity shows every weight
  fill_(diagonal, 1);
  default_generator() = Generator(9, 4);
  const auto y = dense_attention(q, k, v, {.causal = false, .dropout = 0.25}).to_vector<float>();
  for (std::size_t n = 0; n < y.size(); ++n)
    CHECK(y[n] == doctest::Approx(random_uniform(9, 4, n) >= 0.25f ? 1 / 0.75 / 7 : 0.0));
}

TEST_CASE("dense_attention equals the reference in 16 bits on any device") {
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const std::int64_t width : {20, 33, 64, 100})
      check_against_reference(
          {.batch = 2, .heads = 2, .kv_heads = 1, .queries = 20, .keys = 130, .width = width, .value_width = width},
          {.lengths = Tensor::from<std::int64_t>({130, 99}, {2})}, {.dtype = dtype});
}

TEST_CASE("dense_attention in 16 bits rounds what it computes in f32" * doctest::test_suite("cpu")) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor q = cast(randn({1, 2, 20, 8}), dtype), k = cast(randn({1, 2, 20, 8}), dtype);
    const Tensor wide = dense_attention(cast(q, DType::f32), cast(k, DType::f32), cast(k, DType::f32));
    CHECK(bit_equal(dense_attention(q, k, k), cast(wide, dtype)));
  }
}

TEST_CASE("dense_attention survives extreme scores") {
  const Tensor q = times(randn({1, 2, 70, 4}), 100), k = times(randn({1, 2, 70, 4}), 100);
  const Tensor v = randn({1, 2, 70, 4}), dy = randn({1, 2, 70, 4});
  const AttentionResult result = attention_result(causal_attention, q, k, v, dy);
  for (const Tensor& t : {result.y, result.dq, result.dk, result.dv}) CHECK(all_finite(t));
  const Graph graph = graph_of(70, 70, {});
  CHECK(relative_error(result.y, attention_reference(q, k, v, graph, dy).y) < 1e-2);
}

TEST_CASE("dense_attention keeps infinities and NaN to the queries that see them") {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    Tensor q = randn({1, 1, 80, 4}), k = randn({1, 1, 80, 4}), v = randn({1, 1, 80, 4});
    Tensor in_k = k.alias({1}, {1}, 40 * 4), in_v = v.alias({1}, {1}, 60 * 4);
    fill_(in_k, bad);
    fill_(in_v, bad);
    const AttentionResult result = attention_result(causal_attention, q, k, v, randn({1, 1, 80, 4}));
    CHECK(all_finite(result.y.alias({40, 4}, {4, 1}, 0)));
    CHECK(!all_finite(result.y.alias({20, 4}, {4, 1}, 240)));
    const Tensor last = dense_attention(q.alias({1, 1, 1, 4}, {4, 4, 4, 1}, 79 * 4), k, v);
    CHECK(!all_finite(last));
  }
}

TEST_CASE("dense_attention: a bad value changes no bit for queries that do not see it") {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const std::int64_t window : {0, 9})
      for (const std::int64_t row : {1, 14, 40, 69}) {
        CAPTURE(window);
        const DenseAttentionOptions options{.window = window};
        const auto input = [&] { return randn({1, 1, 75, 20}, {.dtype = dtype}); };
        check_bad_values_stay(
            [&](const Tensor& q, const Tensor& k, const Tensor& v) { return dense_attention(q, k, v, options); },
            graph_of(75, 75, options), {input(), input(), input(), input()}, row);
      }
}

TEST_CASE("dense_attention of queries without keys is zero and sends no gradient") {
  const Poison poison;
  const Tensor q = randn({1, 1, 9, 4}), k = randn({1, 1, 6, 4}), dy = randn({1, 1, 9, 4});
  const AttentionResult result = attention_result(causal_attention, q, k, k, dy);
  for (const Tensor& t : {result.y, result.dq}) CHECK(bit_equal(t.alias({3, 4}, {4, 1}, 0), Tensor::zeros({3, 4})));
  const Tensor none = Tensor::zeros({2, 1, 0, 4});
  for (const std::int64_t queries : {1, 0, 70}) {
    const Tensor some = randn({2, 1, queries, 4});
    CHECK(bit_equal(attention_result(causal_attention, some, none, none, randn({2, 1, queries, 4})).dq,
                    Tensor::zeros({2, 1, queries, 4})));
  }
  const Tensor nobody = Tensor::zeros({2, 1, 0, 4}), some = randn({2, 1, 70, 4});
  const AttentionResult unseen = attention_result(causal_attention, nobody, some, some, nobody);
  for (const Tensor& t : {unseen.dk, unseen.dv}) CHECK(bit_equal(packed(t), Tensor::zeros({2, 1, 70, 4})));
}

TEST_CASE("dense_attention reads any strides and lays heads side by side") {
  const Tensor q = randn_heads(2, 3, 40, 8), k = randn_heads(2, 3, 40, 8), v = randn_heads(2, 3, 40, 8);
  const Tensor y = dense_attention(q, k, v);
  CHECK(y.strides() == q.strides());
  CHECK(bit_equal(y, dense_attention(packed_copy(q), packed_copy(k), packed_copy(v))));
  const Tensor columns = randn({2, 3, 8, 40}).alias({2, 3, 40, 8}, {960, 320, 1, 40}, 0);
  CHECK(bit_equal(dense_attention(columns, k, v), dense_attention(packed_copy(columns), k, v)));
  // A cache of which only a part is filled: 40 of 100 positions.
  const Tensor cache = randn({2, 3, 100, 8}), part = cache.alias({2, 3, 40, 8}, {2400, 800, 8, 1}, 0);
  CHECK(bit_equal(dense_attention(q, part, part), dense_attention(q, packed_copy(part), packed_copy(part))));
}

TEST_CASE("dense_attention of the last query alone equals the last row of the whole") {
  const Tensor q = randn_heads(2, 4, 600, 16), k = randn_heads(2, 2, 600, 16), v = randn_heads(2, 2, 600, 16);
  const Tensor last = q.alias({2, 4, 1, 16}, q.strides(), 599 * q.strides()[2]);
  const Tensor whole = dense_attention(q, k, v);
  check_close(dense_attention(last, k, v), whole.alias({2, 4, 1, 16}, whole.strides(), 599 * whole.strides()[2]));
}

TEST_CASE("dense_attention gives the same bits for any thread count") {
  const int threads = cpu::thread_count();
  for (const auto& [queries, keys] : {std::pair<std::int64_t, std::int64_t>{300, 300}, {2, 600}}) {
    const Tensor q = randn({1, 4, queries, 16}), k = randn({1, 2, keys, 16}), v = randn({1, 2, keys, 16});
    const Tensor dy = randn({1, 4, queries, 16});
    std::vector<AttentionResult> results;
    for (const int count : {1, 2, 3}) {
      cpu::set_thread_count(count);
      results.push_back(attention_result(causal_attention, q, k, v, dy));
    }
    cpu::set_thread_count(threads);
    CHECK(test::bit_equal(results[0], results[1]));
    CHECK(test::bit_equal(results[0], results[2]));
  }
}

TEST_CASE("dense_attention needs memory in proportion to the length") {
  // Working memory belongs to threads; which of several take part is a matter of timing.
  const int threads = cpu::thread_count();
  cpu::set_thread_count(1);
  const auto extra = [](std::int64_t length) {
    const Tensor q = randn({1, 2, length, 8}), k = randn({1, 2, length, 8}), dy = randn({1, 2, length, 8});
    attention_result(causal_attention, q, k, k, dy);
    reset_peak_memory(default_device());
    const std::size_t before = memory_statistics(default_device()).in_use;
    attention_result(causal_attention, q, k, k, dy);
    return static_cast<double>(memory_statistics(default_device()).peak - before);
  };
  CHECK(extra(2048) < 2.1 * extra(1024));
  cpu::set_thread_count(threads);
}

TEST_CASE("dense_attention says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor q = Tensor::zeros({1, 3, 4, 8}), k = Tensor::zeros({1, 2, 4, 8}), k1 = Tensor::zeros({1, 1, 4, 8});
  CHECK_THROWS_WITH_AS(dense_attention(q, k, k),
                       "dense_attention: 3 query heads cannot be shared evenly by 2 key/value heads", Error);
  CHECK_THROWS_WITH_AS(dense_attention(q, Tensor::zeros({1, 3, 4, 6}), k),
                       "dense_attention: k f32[1,3,4,6]@cpu and v f32[1,2,4,8]@cpu differ in heads or positions",
                       Error);
  CHECK_THROWS_WITH_AS(dense_attention(q, Tensor::zeros({1, 1, 4, 6}), k1),
                       "dense_attention: q f32[1,3,4,8]@cpu and k f32[1,1,4,6]@cpu differ in head width", Error);
  CHECK_THROWS_WITH_AS(dense_attention(q, k1, k1, {.dropout = 1}), "dense_attention: dropout 1 is outside [0, 1)",
                       Error);
  CHECK_THROWS_WITH_AS(dense_attention(q, k1, k1, {.window = -1}), "dense_attention: window -1 is negative", Error);
  CHECK_THROWS_WITH_AS(dense_attention(q, k1, k1, {.lengths = Tensor::from<std::int64_t>({5}, {1})}),
                       "dense_attention: length 5 of batch row 0 is outside 0 … 4", Error);
  CHECK_THROWS_AS(dense_attention(q, k1, k1, {.lengths = Tensor::from<std::int64_t>({4, 4}, {2})}), Error);
  CHECK_THROWS_AS(dense_attention(q, k1, k1, {.scale = NAN}), Error);
  CHECK_THROWS_AS(dense_attention(q, k1, cast(k1, DType::f64)), Error);
  CHECK_THROWS_AS(dense_attention(Tensor::zeros({4, 8}), k1, k1), Error);
  CHECK_THROWS_AS(dense_attention(Tensor::zeros({2, 1, 4, 8}), k1, k1), Error);
}
