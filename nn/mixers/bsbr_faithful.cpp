#include "nn/mixers/bsbr_faithful.h"

#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/gather.h"
#include "ops/matmul.h"
#include "ops/softmax.h"
#include "ops/view.h"

#include <algorithm>
#include <cmath>

namespace sq {
namespace {

/// softmax over j >= i of x [...,R,R].
Tensor softmax_ahead(const Tensor& scores) {
  const std::int64_t rows = scores.size(-1);
  std::vector<std::uint8_t> ahead;
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < rows; ++j) ahead.push_back(j >= i ? 1 : 0);
  return softmax(where(Tensor::from(ahead, {rows, rows}), scores,
                       Tensor::full({}, is_half(scores.dtype()) ? -30000 : -1e9, scores.options())));
}

}  // namespace

Tensor bsbr_faithful(const BsbrFaithful& in, std::int64_t chunk_size) {
  const std::int64_t batch = in.q.size(0), heads = in.q.size(1), positions = in.q.size(2), width = in.q.size(3);
  const std::int64_t size = std::min(chunk_size, positions), n = (positions + size - 1) / size;
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const auto chunks = [&](const Tensor& x) {
    return reshape(pad(x, 2, 0, n * size - positions), {batch, heads, n, size, width});
  };
  const Tensor k = chunks(in.k), v = chunks(in.v);
  const Tensor pairs = mul(matmul(chunks(in.local_q), transpose(chunks(in.local_k), 3, 4)), scale);
  const Tensor local = matmul(softmax_ahead(pairs), v);

  std::vector<std::int64_t> last;
  for (std::int64_t c = 0; c < n; ++c) last.push_back(std::min((c + 1) * size, positions) - 1);
  const Tensor index = Tensor::from(last, {n});
  const Tensor r = index_select(in.r, 2, index), h = index_select(in.h, 2, index);
  Tensor states = reshape(matmul(transpose(k, 3, 4), v), {batch, heads, n, width * width});
  if (in.compress) states = in.compress(states);
  Tensor mixtures = matmul(softmax_ahead(mul(matmul(r, transpose(h, 2, 3)), scale)), states);
  if (in.decompress) mixtures = in.decompress(mixtures);
  const Tensor retrieval = matmul(chunks(in.q), reshape(mixtures, {batch, heads, n, width, width}));
  return slice(reshape(add(local, retrieval), {batch, heads, n * size, width}), 2, 0, positions);
}

}  // namespace sq
