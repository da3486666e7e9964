#include "ops/neighbor_attention.h"

#include "ops/dense_attention.h"
#include "tensor/cpu/threads.h"
#include "tests/support/attention.h"

using namespace sq;
using namespace sq::test;

namespace {

using Rows = std::vector<std::vector<std::int64_t>>;

std::shared_ptr<const NeighborList> shared_list(const Tensor& indices, std::int64_t keys,
                                                const Tensor& positions = {}) {
  return std::make_shared<const NeighborList>(make_neighbor_list(indices, positions, keys));
}

/// [rows, columns] filled up with -1.
Tensor index_tensor(const Rows& rows, std::int64_t columns) {
  std::vector<std::int64_t> values;
  for (const auto& row : rows)
    for (std::int64_t c = 0; c < columns; ++c)
      values.push_back(c < static_cast<std::int64_t>(row.size()) ? row[static_cast<std::size_t>(c)] : -1);
  return Tensor::from(values, {static_cast<std::int64_t>(rows.size()), columns});
}

/// A list like those of HALO-S: shared first keys, a window, strided keys, some random ones, empty slots, and repeats.
Tensor mixed_indices(std::int64_t length, std::int64_t window, std::uint64_t seed) {
  Rows rows;
  for (std::int64_t i = 0; i < length; ++i) {
    std::vector<std::int64_t> row{0, std::min<std::int64_t>(1, length - 1)};
    for (std::int64_t j = i - window + 1; j <= i; ++j) row.push_back(std::max<std::int64_t>(j, -1));
    for (std::int64_t n = 1; n <= 3; ++n) row.push_back(std::max<std::int64_t>(i - n * window, -1));
    for (std::uint64_t n = 0; n < 2; ++n)
      row.push_back(static_cast<std::int64_t>(
          random_below(seed, n, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(length))));
    if (i % 3 == 0) row.push_back(i);
    rows.push_back(row);
  }
  return index_tensor(rows, window + 8);
}

/// The live entries of an index tensor.
Graph graph_of(const Tensor& indices, bool causal, const std::vector<std::int64_t>& positions = {}) {
  return [=, values = indices.to_vector<std::int64_t>(), columns = indices.size(1)](std::int64_t, std::int64_t i) {
    std::vector<std::int64_t> list;
    const std::int64_t own = positions.empty() ? i : positions[static_cast<std::size_t>(i)];
    for (std::int64_t c = 0; c < columns; ++c) {
      const std::int64_t j = values[static_cast<std::size_t>(i * columns + c)];
      if (j >= 0 && (!causal || j <= own)) list.push_back(j);
    }
    return list;
  };
}

struct Inputs {
  Tensor q, k, v, dy;
  Inputs(std::int64_t batch, std::int64_t heads, std::int64_t kv_heads, std::int64_t queries, std::int64_t keys,
         std::int64_t width, std::int64_t value_width, TensorOptions kind = {})
      : q(randn_heads(batch, heads, queries, width, kind)),
        k(randn_heads(batch, kv_heads, keys, width, kind)),
        v(randn_heads(batch, kv_heads, keys, value_width, kind)),
        dy(randn_heads(batch, heads, queries, value_width, kind)) {}
};

AttentionResult neighbor_result(const Inputs& in, const std::shared_ptr<const NeighborList>& list,
                                const NeighborAttentionOptions& options = {}) {
  return attention_result(
      [&](const Tensor& q, const Tensor& k, const Tensor& v) { return neighbor_attention(q, k, v, list, options); },
      in.q, in.k, in.v, in.dy);
}

}  // namespace

TEST_CASE("neighbor_attention counts a key listed twice twice, worked out by hand") {
  // scores 0 (listed twice) and log 2: weights 1/4 + 1/4 and 2/4
  const Tensor q = Tensor::from<double>({1}, {1, 1, 1, 1}), k = Tensor::from<double>({0, std::log(2)}, {1, 1, 2, 1});
  const Tensor v = Tensor::from<double>({8, 4}, {1, 1, 2, 1});
  const auto list =
      shared_list(Tensor::from<std::int64_t>({0, 1, -1, 0}, {1, 4}), 2, Tensor::from<std::int64_t>({1}, {1}));
  CHECK(neighbor_attention(q, k, v, list, {.scale = 1}).item() == doctest::Approx(6));
}

TEST_CASE("neighbor_attention equals the reference, gradients included") {
  const Poison poison;
  for (const std::int64_t length : {1, 5, 63, 64, 65, 131, 200})
    for (const bool causal : {true, false}) {
      CAPTURE(length);
      CAPTURE(causal);
      const Tensor indices = mixed_indices(length, 7, 3);
      const Inputs in(2, 2, 2, length, length, 16, 16);
      check_close(neighbor_result(in, shared_list(indices, length), {.causal = causal}),
                  attention_reference(in.q, in.k, in.v, graph_of(indices, causal), in.dy));
    }
  for (const std::int64_t width : {1, 3, 8, 33, 64, 80, 100}) {
    CAPTURE(width);
    const Tensor indices = mixed_indices(150, 40, 4);
    const Inputs in(1, 1, 1, 150, 150, width, width + 2);
    check_close(neighbor_result(in, shared_list(indices, 150), {.scale = 0.2}),
                attention_reference(in.q, in.k, in.v, graph_of(indices, true), in.dy, 0.2));
  }
  const Inputs in(1, 2, 1, 140, 140, 20, 5, {.dtype = DType::f64});
  check_close(neighbor_result(in, shared_list(mixed_indices(140, 64, 5), 140)),
              attention_reference(in.q, in.k, in.v, graph_of(mixed_indices(140, 64, 5), true), in.dy));
}

TEST_CASE("neighbor_attention shares key/value heads among groups of query heads") {
  const Poison poison;
  for (const std::int64_t kv_heads : {1, 2, 4}) {
    const Tensor indices = mixed_indices(90, 20, 6);
    const Inputs in(2, 4, kv_heads, 90, 90, 16, 8);
    check_close(neighbor_result(in, shared_list(indices, 90)),
                attention_reference(in.q, in.k, in.v, graph_of(indices, true), in.dy));
  }
}

TEST_CASE("neighbor_attention over all earlier keys is dense attention") {
  const std::int64_t length = 130;
  Rows rows;
  for (std::int64_t i = 0; i < length; ++i) {
    rows.emplace_back();
    for (std::int64_t j = 0; j < length; ++j) rows.back().push_back(j);
  }
  const auto list = shared_list(index_tensor(rows, length), length);
  const Inputs in(2, 4, 2, length, length, 16, 16);
  const auto dense = [&](const DenseAttentionOptions& options) {
    return attention_result(
        [&](const Tensor& q, const Tensor& k, const Tensor& v) { return dense_attention(q, k, v, options); }, in.q,
        in.k, in.v, in.dy);
  };
  check_close(neighbor_result(in, list), dense({}));
  check_close(neighbor_result(in, list, {.causal = false}), dense({.causal = false}));
  default_generator() = Generator(3, 8);
  const AttentionResult dropped = neighbor_result(in, list, {.dropout = 0.3});
  default_generator() = Generator(3, 8);
  check_close(dropped, dense({.dropout = 0.3}));
}

TEST_CASE("neighbor_attention has the right gradients") {
  const Tensor indices = Tensor::from<std::int64_t>({0, -1, -1, 0, 1, 1, 2, 0, 2, 3, 1, 3, 4, 4, 0}, {5, 3});
  for (const std::int64_t kv_heads : {1, 2})
    for (const auto& options : {NeighborAttentionOptions{}, {.causal = false, .scale = 0.7}, {.dropout = 0.4}})
      check_gradients(
          [&](const std::vector<Tensor>& in) {
            default_generator() = Generator(5, 3);
            return neighbor_attention(in[0], in[1], in[2], shared_list(indices, 5), options);
          },
          {variable({2, 2, 5, 3}, 1), variable({2, kv_heads, 5, 3}, 2), variable({2, kv_heads, 5, 2}, 3)});
}

TEST_CASE("neighbor_attention scores the first columns with plain queries") {
  const Tensor indices = mixed_indices(90, 20, 7);
  const Inputs in(1, 4, 2, 90, 90, 16, 16);
  for (const std::int64_t columns : {2, 28}) {  // the same vectors as both kinds of queries change nothing
    const NeighborAttentionOptions options{.plain_q = in.q, .plain_columns = columns};
    check_close(neighbor_attention(in.q, in.k, in.v, shared_list(indices, 90), options),
                neighbor_attention(in.q, in.k, in.v, shared_list(indices, 90)));
  }
  const Tensor small = Tensor::from<std::int64_t>({0, 0, -1, 0, 1, 1, 0, 2, 1, 1, 3, 0}, {4, 3});
  for (const std::int64_t columns : {1, 3})
    check_gradients(
        [&](const std::vector<Tensor>& in2) {
          return neighbor_attention(in2[0], in2[1], in2[2], shared_list(small, 4),
                                    {.plain_q = in2[3], .plain_columns = columns});
        },
        {variable({2, 2, 4, 3}, 1), variable({2, 1, 4, 3}, 2), variable({2, 1, 4, 2}, 3), variable({2, 2, 4, 3}, 4)});
}

TEST_CASE("neighbor_attention for a few positions of a cache equals those rows of the whole") {
  const std::int64_t length = 150;
  const Tensor indices = mixed_indices(length, 20, 8);
  const Inputs in(2, 4, 2, length, length, 16, 16);
  const Tensor whole = neighbor_attention(in.q, in.k, in.v, shared_list(indices, length));
  for (const std::int64_t count : {1, 3}) {
    const std::int64_t first = length - count;
    const Tensor rows = indices.alias({count, indices.size(1)}, indices.strides(), first * indices.size(1));
    std::vector<std::int64_t> positions;
    for (std::int64_t i = first; i < length; ++i) positions.push_back(i);
    const Tensor q = in.q.alias({2, 4, count, 16}, in.q.strides(), first * in.q.strides()[2]);
    const Tensor y = neighbor_attention(q, in.k, in.v, shared_list(rows, length, Tensor::from(positions, {count})));
    CHECK(y.shape() == Shape{2, 4, count, 16});
    check_close(y, whole.alias({2, 4, count, 16}, whole.strides(), first * whole.strides()[2]));
  }
}

TEST_CASE("neighbor_attention of queries without live slots is zero and sends no gradient") {
  const Poison poison;
  const auto list = shared_list(Tensor::from<std::int64_t>({-1, 2, -1, -1, 2, 0}, {3, 2}), 3);
  const Inputs in(1, 1, 1, 3, 3, 4, 4);
  const AttentionResult result = neighbor_result(in, list);
  const auto row = [](const Tensor& t, std::int64_t i) { return t.alias({4}, {1}, 4 * i); };
  for (const std::int64_t i : {0, 1}) {
    CHECK(bit_equal(row(result.y, i), Tensor::zeros({4})));
    CHECK(bit_equal(row(result.dq, i), Tensor::zeros({4})));
  }
  CHECK(bit_equal(row(result.dk, 1), Tensor::zeros({4})));
  CHECK(bit_equal(row(result.dv, 1), Tensor::zeros({4})));
  CHECK(all_finite(result.dk));
  const auto nobody = shared_list(Tensor::zeros({0, 2}, {.dtype = DType::i32}), 3);
  CHECK(bit_equal(neighbor_result(Inputs(1, 1, 1, 0, 3, 4, 4), nobody).dk, Tensor::zeros({1, 1, 3, 4})));
}

TEST_CASE("neighbor_attention survives extreme scores and keeps bad values to their readers") {
  const std::int64_t length = 100;
  const auto list = shared_list(mixed_indices(length, 10, 9), length);
  Inputs in(1, 1, 1, length, length, 8, 8);
  fill_normal_(in.q, 0, 100);
  fill_normal_(in.k, 0, 100);
  AttentionResult result = neighbor_result(in, list);
  for (const Tensor& t : {result.y, result.dq, result.dk, result.dv}) CHECK(all_finite(t));
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    Tensor in_v = in.v.alias({1}, {1}, 90 * 8), in_k = in.k.alias({1}, {1}, 95 * 8);
    fill_(in_v, bad);
    fill_(in_k, bad);
    result = neighbor_result(in, list);
    CHECK(all_finite(result.y.alias({90, 8}, {8, 1}, 0)));
    CHECK(!all_finite(result.y));
  }
}

TEST_CASE("neighbor_attention: a bad value changes no bit for queries that do not read it") {
  const Tensor indices = mixed_indices(90, 20, 11);
  const auto list = shared_list(indices, 90);
  for (const DType dtype : {DType::f32, DType::f64})
    for (const std::int64_t row : {1, 14, 40, 69}) {
      const auto input = [&] { return randn({1, 1, 90, 12}, {.dtype = dtype}); };
      check_bad_values_stay(
          [&](const Tensor& q, const Tensor& k, const Tensor& v) { return neighbor_attention(q, k, v, list); },
          graph_of(indices, true), {input(), input(), input(), input()}, row);
    }
}

TEST_CASE("neighbor_attention equals the reference in 16 bits on any device") {
  const Tensor indices = mixed_indices(150, 40, 4);
  for (const DType dtype : {DType::bf16, DType::f16})
    for (const std::int64_t width : {8, 33, 100}) {
      CAPTURE(width);
      const Inputs in(1, 2, 1, 150, 150, width, width, {.dtype = dtype});
      check_close(neighbor_result(in, shared_list(indices, 150)),
                  attention_reference(in.q, in.k, in.v, graph_of(indices, true), in.dy));
    }
}

TEST_CASE("neighbor_attention in 16 bits rounds what it computes in f32" * doctest::test_suite("cpu")) {
  const auto list = shared_list(mixed_indices(40, 10, 10), 40);
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor q = cast(randn({1, 2, 40, 8}), dtype), k = cast(randn({1, 2, 40, 8}), dtype);
    const NeighborAttentionOptions narrow{.plain_q = k, .plain_columns = 2};
    const NeighborAttentionOptions wide{.plain_q = cast(k, DType::f32), .plain_columns = 2};
    const Tensor y = neighbor_attention(cast(q, DType::f32), cast(k, DType::f32), cast(k, DType::f32), list, wide);
    CHECK(bit_equal(neighbor_attention(q, k, k, list, narrow), cast(y, dtype)));
  }
}

TEST_CASE("neighbor_attention gives the same bits for any thread count") {
  const std::int64_t length = 300;
  const Inputs in(1, 4, 2, length, length, 16, 16);
  std::vector<AttentionResult> results;
  const int threads = cpu::thread_count();
  for (const int count : {1, 2, 3}) {
    cpu::set_thread_count(count);
    results.push_back(neighbor_result(in, shared_list(mixed_indices(length, 40, 11), length)));
  }
  cpu::set_thread_count(threads);
  CHECK(test::bit_equal(results[0], results[1]));
  CHECK(test::bit_equal(results[0], results[2]));
}

TEST_CASE("neighbor_attention needs memory in proportion to the length") {
  // Working memory belongs to threads; which of several take part is a matter of timing.
  const int threads = cpu::thread_count();
  cpu::set_thread_count(1);
  const auto extra = [](std::int64_t length) {
    const auto list = shared_list(mixed_indices(length, 64, 12), length);
    const Inputs in(1, 2, 1, length, length, 16, 16);
    neighbor_result(in, list);
    reset_peak_memory(default_device());
    const std::size_t before = memory_statistics(default_device()).in_use;
    neighbor_result(in, list);
    return static_cast<double>(memory_statistics(default_device()).peak - before);
  };
  const double large = extra(2048);
  CHECK(large < 2.1 * extra(1024));
  CHECK(large < 4 * 2048 * 2 * 16 * 16);  // far less than one copy of the gathered keys: 4 · 2048 · 2 · 72 · 16
  cpu::set_thread_count(threads);
}

TEST_CASE("neighbor_attention sums up the gradients of keys that very many queries list") {
  const std::int64_t length = 1300;  // more queries than a GPU's block takes for a tile of keys
  for (const std::int64_t shared : {2, 9}) {
    Rows rows;
    for (std::int64_t i = 0; i < length; ++i) {
      rows.emplace_back();
      for (std::int64_t j = 0; j < shared; ++j) rows.back().push_back(30 * j);
      rows.back().push_back(i);
    }
    const Tensor indices = index_tensor(rows, shared + 1);
    const Inputs in(1, 2, 1, length, length, 4, 8);
    check_close(neighbor_result(in, shared_list(indices, length)),
                attention_reference(in.q, in.k, in.v, graph_of(indices, true), in.dy));
  }
}

TEST_CASE("neighbor_attention says what is wrong" * doctest::test_suite("cpu")) {
  const Tensor q = Tensor::zeros({1, 2, 4, 8}), k = Tensor::zeros({1, 2, 4, 8});
  const auto list = shared_list(Tensor::zeros({4, 3}, {.dtype = DType::i32}), 4);
  CHECK_THROWS_WITH_AS(neighbor_attention(q, k, k, nullptr), "neighbor_attention: there is no neighbor list", Error);
  CHECK_THROWS_WITH_AS(
      neighbor_attention(q, k, k, shared_list(Tensor::zeros({5, 3}, {.dtype = DType::i32}), 4)),
      "neighbor_attention: the neighbor list is for 5 queries and 4 keys, but q is f32[1,2,4,8]@cpu and k is "
      "f32[1,2,4,8]@cpu",
      Error);
  CHECK_THROWS_WITH_AS(neighbor_attention(q, k, k, list, {.plain_columns = 2}),
                       "neighbor_attention: 2 plain columns need plain_q", Error);
  CHECK_THROWS_WITH_AS(neighbor_attention(q, k, k, list, {.plain_q = q, .plain_columns = 4}),
                       "neighbor_attention: 4 plain columns do not fit a list of 3", Error);
  CHECK_THROWS_WITH_AS(neighbor_attention(q, k, k, list, {.dropout = -0.1}),
                       "neighbor_attention: dropout -0.1 is outside [0, 1)", Error);
  CHECK_THROWS_AS(neighbor_attention(q, k, k, list, {.plain_q = Tensor::zeros({1, 2, 4, 6}), .plain_columns = 1}),
                  Error);
  CHECK_THROWS_AS(neighbor_attention(q, k, k,
                                     std::make_shared<const NeighborList>(
                                         NeighborList{Tensor::zeros({4, 3}, {.dtype = DType::i32}), {}, 4, {}})),
                  Error);
}
