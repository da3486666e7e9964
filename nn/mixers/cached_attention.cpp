#include "nn/mixers/cached_attention.h"

#include "nn/mixers/real_rows.h"
#include "ops/dense_attention.h"
#include "tensor/memory.h"

#include <algorithm>

namespace sq {

Tensor index_tensor(std::span<const std::int64_t> values) {
  return Tensor::from(std::vector<std::int64_t>(values.begin(), values.end()),
                      {static_cast<std::int64_t>(values.size())});
}

bool QueryPlaces::together(std::int64_t t) const {
  const auto same = [](std::span<const std::int64_t> values, std::int64_t value) {
    return std::all_of(values.begin(), values.end(), [&](std::int64_t v) { return v == value; });
  };
  return same(seen, seen[0]) && same(counts, t);
}

NewRows::NewRows(const QueryPlaces& queries, std::int64_t t, std::int64_t slots) {
  const auto batch = static_cast<std::int64_t>(queries.seen.size());
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < t; ++i) {
      const std::int64_t count = queries.counts[static_cast<std::size_t>(b)];
      const std::int64_t position = queries.seen[static_cast<std::size_t>(b)] + i;
      places.push_back(i < count && i >= count - slots ? b * slots + position % slots : -1);
    }
  positions = next_positions(queries.seen, t);
}

Tensor cached_attention(const Tensor& q, const KvCache& cache, const QueryPlaces& places, double scale,
                        Averaged averaged) {
  const std::int64_t batch = q.size(0), t = q.size(2);
  const auto attend = [&](const Tensor& queries, std::int64_t row, std::int64_t rows, std::int64_t keys, bool causal,
                          const Tensor& lengths) {
    const Tensor k = cache.keys(row, row + rows, keys);
    return dense_attention(queries, k, averaged == Averaged::keys ? k : cache.values(row, row + rows, keys),
                           {.causal = causal, .scale = scale, .lengths = lengths});
  };
  if (places.together(t)) return attend(q, 0, batch, places.seen[0] + t, true, {});
  if (t == 1) {  // the rows' lengths are mask enough
    std::vector<std::int64_t> lengths(places.seen.begin(), places.seen.end());
    for (std::size_t b = 0; b < lengths.size(); ++b) lengths[b] += places.counts[b];
    return attend(q, 0, batch, std::max<std::int64_t>(1, *std::max_element(lengths.begin(), lengths.end())), false,
                  index_tensor(lengths));
  }
  Tensor o = Tensor::zeros({batch, t, q.size(1), q.size(3)}, q.options());
  const Shape &from = q.strides(), &to = o.strides();
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t count = places.counts[static_cast<std::size_t>(b)];
    if (count == 0) continue;
    const Shape shape{1, q.size(1), count, q.size(3)};
    Tensor target = o.alias(shape, {to[0], to[2], to[1], to[3]}, b * to[0]);
    copy_(target,
          attend(q.alias(shape, from, b * from[0]), b, 1, places.seen[static_cast<std::size_t>(b)] + count, true, {}));
  }
  return o.alias(q.shape(), {to[0], to[2], to[1], to[3]}, 0);
}

}  // namespace sq
