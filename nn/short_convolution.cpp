#include "nn/short_convolution.h"

#include "ops/cast.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/short_convolution.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>

namespace sq {
namespace {

Tensor first_weight(std::int64_t channels, std::int64_t taps, Initializer& init) {
  const Tensor weight = init.weight(channels, taps);
  Tensor own = slice(weight, 1, taps - 1, taps);
  accumulate_(own, Tensor::ones(own.shape(), own.options()));
  return weight;
}

}  // namespace

ShortConvolution::ShortConvolution(std::int64_t channels, std::int64_t taps, Initializer& init)
    : weight_(add_parameter("weight", first_weight(channels, taps, init))) {}

Tensor ShortConvolution::forward(const Tensor& x, const Tensor& mask) const {
  const Tensor real = mask.defined() ? where(unsqueeze(mask, 2), x, Tensor::zeros({}, x.options())) : x;
  return silu(short_convolution(real, cast(weight_, x.dtype())));
}

Tensor ShortConvolution::step(const Tensor& x, Tensor& before, std::span<const std::int64_t> counts) const {
  const Tensor y = silu(short_convolution(x, cast(weight_, x.dtype()), {}, before));
  const Tensor whole = concat({before, x}, 1);  // the last W-1 real rows begin at row counts[b]
  const std::int64_t kept = before.size(1);
  if (std::all_of(counts.begin(), counts.end(), [&](std::int64_t count) { return count == counts[0]; })) {
    before = packed_copy(slice(whole, 1, counts[0], counts[0] + kept));
    return y;
  }
  std::vector<Tensor> rows;
  for (std::size_t b = 0; b < counts.size(); ++b) {
    const auto row = static_cast<std::int64_t>(b);
    rows.push_back(slice(slice(whole, 0, row, row + 1), 1, counts[b], counts[b] + kept));
  }
  before = concat(rows, 0);
  return y;
}

}  // namespace sq
