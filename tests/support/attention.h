// tests/support/attention.h: attention worked out pair by pair in double, with its gradients.
#pragma once

#include "autograd/engine.h"
#include "ops/cast.h"
#include "tests/support/compare.h"

namespace sq::test {

/// The keys that query i of batch row b attends to; a key may stand there more than once.
using Graph = std::function<std::vector<std::int64_t>(std::int64_t b, std::int64_t i)>;

struct AttentionResult {
  Tensor y = {}, dq = {}, dk = {}, dv = {};
};

/// y and, for the upstream dy, the gradients, from the definition.
inline AttentionResult attention_reference(const Tensor& q, const Tensor& k, const Tensor& v, const Graph& graph,
                                           const Tensor& dy, double scale = 0) {
  const std::int64_t batch = q.size(0), heads = q.size(1), queries = q.size(2), width = q.size(3);
  const std::int64_t kv_heads = k.size(1), keys = k.size(2), value_width = v.size(3);
  const auto qs = q.to_vector<double>(), ks = k.to_vector<double>(), vs = v.to_vector<double>();
  const auto dys = dy.to_vector<double>();
  std::vector<double> y(dys.size()), dq(qs.size()), dk(ks.size()), dv(vs.size());
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(width));
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t i = 0; i < queries; ++i) {
        const std::vector<std::int64_t> list = graph(b, i);
        const std::int64_t kv = b * kv_heads + h / (heads / kv_heads);
        const std::int64_t qi = ((b * heads + h) * queries + i) * width;
        const std::int64_t yi = ((b * heads + h) * queries + i) * value_width;
        std::vector<double> a(list.size()), t(list.size());
        double most = -INFINITY, sum = 0, delta = 0;
        for (std::size_t n = 0; n < list.size(); ++n) {
          for (std::int64_t c = 0; c < width; ++c)
            a[n] += scale * qs[static_cast<std::size_t>(qi + c)] *
                    ks[static_cast<std::size_t>((kv * keys + list[n]) * width + c)];
          most = std::max(most, a[n]);
        }
        for (double& x : a) sum += x = std::exp(x - most);
        for (std::size_t n = 0; n < list.size(); ++n) {
          a[n] /= sum;
          for (std::int64_t c = 0; c < value_width; ++c) {
            const auto vj = static_cast<std::size_t>((kv * keys + list[n]) * value_width + c);
            y[static_cast<std::size_t>(yi + c)] += a[n] * vs[vj];
            t[n] += dys[static_cast<std::size_t>(yi + c)] * vs[vj];
            dv[vj] += a[n] * dys[static_cast<std::size_t>(yi + c)];
          }
          delta += a[n] * t[n];
        }
        for (std::size_t n = 0; n < list.size(); ++n)
          for (std::int64_t c = 0; c < width; ++c) {
            const auto kj = static_cast<std::size_t>((kv * keys + list[n]) * width + c);
            const double ds = scale * a[n] * (t[n] - delta);
            dq[static_cast<std::size_t>(qi + c)] += ds * ks[kj];
            dk[kj] += ds * qs[static_cast<std::size_t>(qi + c)];
          }
      }
  return {cast(Tensor::from(y, {batch, heads, queries, value_width}), q.dtype()),
          cast(Tensor::from(dq, q.shape()), q.dtype()), cast(Tensor::from(dk, k.shape()), q.dtype()),
          cast(Tensor::from(dv, v.shape()), q.dtype())};
}

/// The same from an operation.
inline AttentionResult attention_result(
    const std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>& attention, const Tensor& q,
    const Tensor& k, const Tensor& v, const Tensor& dy) {
  const Tensor query = q.alias(), key = k.alias(), value = v.alias();
  for (const Tensor& t : {query, key, value}) set_requires_grad(t);
  AttentionResult result{.y = attention(query, key, value)};
  backward(result.y, dy);
  result.dq = grad(query);
  result.dk = grad(key);
  result.dv = grad(value);
  return result;
}

/// Largest |a - b|; infinite when the shapes differ or a value is not finite.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || !all_finite(a) || !all_finite(b)) return INFINITY;
  const std::vector<double> x = a.to_vector<double>(), y = b.to_vector<double>();
  double most = 0;
  for (std::size_t i = 0; i < x.size(); ++i) most = std::max(most, std::abs(x[i] - y[i]));
  return most;
}

/// Gradients that vanish (a query with a single key) are differences of numbers around 1, and are compared as such.
inline void check_close(const AttentionResult& a, const AttentionResult& b) {
  check_close(a.y, b.y);
  check_close(a.dv, b.dv);
  for (const auto& [x, y] : {std::pair{a.dq, b.dq}, {a.dk, b.dk}})
    if (largest_difference(x, y) > tolerance(x.dtype())) check_close(x, y);
}

inline bool bit_equal(const AttentionResult& a, const AttentionResult& b) {
  return sq::bit_equal(a.y, b.y) && sq::bit_equal(a.dq, b.dq) && sq::bit_equal(a.dk, b.dk) && sq::bit_equal(a.dv, b.dv);
}

/// The rows t of two packed tensors [1,1,T,D] that differ in any bit.
inline std::vector<std::int64_t> rows_that_differ(const Tensor& a, const Tensor& b) {
  std::vector<std::int64_t> rows;
  for (std::int64_t t = 0; t < a.size(2); ++t) {
    const auto row = [t](const Tensor& x) { return x.alias({x.size(3)}, {x.strides()[3]}, t * x.strides()[2]); };
    if (!sq::bit_equal(row(a), row(b))) rows.push_back(t);
  }
  return rows;
}

/// Puts one bad value at a time into row `row` of q, k, v and dy [1,1,T,D] and checks that it changes nothing for the
/// rows that have no part in it. `graph` lists the keys of each query.
inline void check_bad_values_stay(const std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>& attention,
                                  const Graph& graph, const std::vector<Tensor>& inputs, std::int64_t row) {
  const auto sees = [&](std::int64_t i) {
    const std::vector<std::int64_t> keys = graph(0, i);
    return std::find(keys.begin(), keys.end(), row) != keys.end();
  };
  const auto seen_by_row = [&](std::int64_t j) {
    const std::vector<std::int64_t> keys = graph(0, row);
    return std::find(keys.begin(), keys.end(), j) != keys.end();
  };
  const auto result_of = [&](const std::vector<Tensor>& in) {
    return attention_result(attention, in[0], in[1], in[2], in[3]);
  };
  const AttentionResult clean = result_of(inputs);
  CAPTURE(row);
  for (std::size_t which = 0; which < 4; ++which) {
    CAPTURE(which);
    std::vector<Tensor> in = inputs;
    in[which] = packed_copy(inputs[which]);
    Tensor bad = in[which].alias({1}, {1}, row * inputs[which].size(3));
    fill_(bad, which < 2 || row % 2 == 0 ? NAN : INFINITY);  // scores of -∞ would only silence a key
    const AttentionResult result = result_of(in);
    const bool is_key = which == 1 || which == 2;  // else it belongs to query `row`
    for (const auto& [a, b] : {std::pair{result.y, clean.y}, {result.dq, clean.dq}})
      for (const std::int64_t i : rows_that_differ(a, b)) CHECK((is_key ? sees(i) : i == row));
    for (const auto& [a, b] : {std::pair{result.dk, clean.dk}, {result.dv, clean.dv}})
      for (const std::int64_t j : rows_that_differ(a, b)) {
        bool connected = is_key ? j == row : seen_by_row(j);
        // A query that sees the bad key sends bad gradients to all its keys.
        for (std::int64_t i = 0; is_key && !connected && i < result.y.size(2); ++i) {
          const std::vector<std::int64_t> keys = graph(0, i);
          connected = sees(i) && std::find(keys.begin(), keys.end(), j) != keys.end();
        }
        CHECK(connected);
      }
    CHECK(!sq::all_finite(which == 3 ? result.dv : result.y));
  }
}

/// [B,H,T,D] that lies in memory as [B,T,H,D], as projections leave it.
inline Tensor randn_heads(std::int64_t batch, std::int64_t heads, std::int64_t positions, std::int64_t width,
                          TensorOptions options = {}) {
  return randn({batch, positions, heads, width}, options)
      .alias({batch, heads, positions, width}, {positions * heads * width, width, heads * width, 1}, 0);
}

}  // namespace sq::test
