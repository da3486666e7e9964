// tests/nn/mixers/reference_attention.h: attention of one query after another, in double, from weights by name.
#pragma once

#include "tests/support/compare.h"

#include <map>
#include <string>
#include <vector>

namespace sq::test {

/// What one query row reads: rows of the sequence, each as often as it is listed.
struct ReadRow {
  std::int64_t row;
  bool rotated = true;  // whether the score uses rotary positions
};

/// Row by row by the formulas of nn/mixers/attention.h.
class ReferenceAttention {
 public:
  /// Weights PREFIX{q,k,v,o}_proj.weight of `module`.
  ReferenceAttention(const Module& module, const std::string& prefix, std::int64_t heads, std::int64_t kv_heads)
      : heads_(heads), kv_heads_(kv_heads) {
    for (const auto& [name, tensor] : module.named_parameters())
      if (name.starts_with(prefix)) weights_[name.substr(prefix.size(), 1)] = tensor;
    width_ = weights_.at("q").size(0) / heads;
  }

  using Row = std::vector<double>;

  /// y of a query row at rotary position `position`; positions[r] is that of row r of x, a row of [T][C].
  Row operator()(const std::vector<Row>& x, const std::vector<std::int64_t>& positions, const Row& query,
                 std::int64_t position, const std::vector<ReadRow>& reads, bool rope = true) const {
    const Row q = times("q", query);
    Row o(static_cast<std::size_t>(heads_ * width_));
    for (std::int64_t h = 0; h < heads_; ++h) {
      const std::int64_t kv = h / (heads_ / kv_heads_);
      std::vector<double> weights;
      double sum = 0;
      for (const ReadRow& read : reads) {
        const Row k = times("k", x[static_cast<std::size_t>(read.row)]);
        const bool turn = rope && read.rotated;
        const Row a = turned(q, h, turn ? position : 0);
        const Row b = turned(k, kv, turn ? positions[static_cast<std::size_t>(read.row)] : 0);
        double score = 0;
        for (std::size_t d = 0; d < a.size(); ++d) score += a[d] * b[d];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(width_))));
        sum += weights.back();
      }
      for (std::size_t c = 0; c < reads.size(); ++c) {
        const Row v = turned(times("v", x[static_cast<std::size_t>(reads[c].row)]), kv, 0);
        for (std::size_t d = 0; d < v.size(); ++d)
          o[static_cast<std::size_t>(h * width_) + d] += weights[c] / sum * v[d];
      }
    }
    return times("o", o);
  }

 private:
  Row times(const std::string& name, const Row& x) const {
    const Tensor& w = weights_.at(name);
    const std::vector<double> values = w.to_vector<double>();
    Row y(static_cast<std::size_t>(w.size(0)));
    for (std::size_t i = 0; i < y.size(); ++i)
      for (std::size_t j = 0; j < x.size(); ++j) y[i] += values[i * x.size() + j] * x[j];
    return y;
  }

  /// Head h of a row, each pair (m, m + D/2) turned by position·10000^(-2m/D).
  Row turned(const Row& row, std::int64_t h, std::int64_t position) const {
    const auto d = static_cast<std::size_t>(width_), half = d / 2;
    Row y(row.begin() + h * width_, row.begin() + (h + 1) * width_);
    if (position == 0) return y;
    const Row x = y;
    for (std::size_t m = 0; m < half; ++m) {
      const double angle =
          static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(m) / static_cast<double>(d));
      y[m] = x[m] * std::cos(angle) - x[m + half] * std::sin(angle);
      y[m + half] = x[m + half] * std::cos(angle) + x[m] * std::sin(angle);
    }
    return y;
  }

  std::int64_t heads_, kv_heads_, width_ = 0;
  std::map<std::string, Tensor> weights_;
};

/// Row b of x [B,T,C].
inline std::vector<ReferenceAttention::Row> rows_of(const Tensor& x, std::int64_t b) {
  const std::vector<double> values = x.to_vector<double>();
  std::vector<ReferenceAttention::Row> rows;
  const auto c = x.size(2);
  for (std::int64_t t = 0; t < x.size(1); ++t) {
    const auto begin = values.begin() + (b * x.size(1) + t) * c;
    rows.emplace_back(begin, begin + c);
  }
  return rows;
}

/// [1,T,C] f64.
inline Tensor to_rows(const std::vector<ReferenceAttention::Row>& rows) {
  std::vector<double> values;
  for (const auto& row : rows) values.insert(values.end(), row.begin(), row.end());
  const auto t = static_cast<std::int64_t>(rows.size());
  return Tensor::from(values, {1, t, static_cast<std::int64_t>(values.size()) / t});
}

}  // namespace sq::test
