#include "nn/mixers/delta_net_faithful.h"

#include "autograd/node.h"
#include "ops/concat.h"
#include "ops/elementwise.h"
#include "ops/matmul.h"
#include "ops/reduce.h"
#include "ops/view.h"
#include "tensor/memory.h"

#include <algorithm>

namespace sq {
namespace {

Tensor clipped(const Tensor& x) { return -maximum(-maximum(x, -1), -1); }

/// 0.9 for heads whose largest entry is beyond 10, 1 for others, [B,H,1,1]; undefined where all are 1.
Tensor shrinking(const Tensor& memory) {
  std::vector<double> largest = maximum(max(memory, {2, 3}), max(-memory, {2, 3})).to_vector<double>();
  if (std::none_of(largest.begin(), largest.end(), [](double value) { return value > 10; })) return {};
  std::transform(largest.begin(), largest.end(), largest.begin(), [](double value) { return value > 10 ? 0.9 : 1; });
  const Tensor factors = Tensor::from(largest, {memory.size(0), memory.size(1), 1, 1});
  return moved(packed_copy(factors, memory.dtype()), memory.device());
}

}  // namespace

DeltaRuleResult delta_net_faithful(const Tensor& q, const Tensor& k, const Tensor& v, double beta,
                                   const Tensor& first_state) {
  Tensor memory =
      first_state.defined() ? first_state : Tensor::zeros({q.size(0), q.size(1), q.size(3), v.size(3)}, q.options());
  std::vector<Tensor> results;
  for (std::int64_t t = 0; t < q.size(2); ++t) {
    const Tensor key = unsqueeze(select(k, 2, t), 3);           // [B,H,K,1]
    const Tensor found = matmul(transpose(key, 2, 3), memory);  // [B,H,1,V]
    const Tensor error = clipped(unsqueeze(select(v, 2, t), 2) - found);
    memory = memory + clipped(key * error * beta);
    if (const Tensor factors = shrinking(detach(memory)); factors.defined()) memory = memory * factors;
    results.push_back(clipped(squeeze(matmul(memory, unsqueeze(select(q, 2, t), 3)), 3)));  // [B,H,K]
  }
  return {stack(results, 2), memory};
}

}  // namespace sq
