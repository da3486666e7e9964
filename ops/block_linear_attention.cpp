#include "ops/block_linear_attention.h"

#include "autograd/node.h"
#include "ops/cast.h"
#include "ops/dispatch.h"
#include "ops/matrix_rows.h"

namespace sq {
namespace {

constexpr std::string_view kName = "block_linear_attention";

void check(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t block) {
  require(block >= 1, kName, "blocks of {} positions; use 1 or more", block);
  require_same_kind(kName, {q, k, v});
  require_attention_shapes(kName, q, k, v);
  require(q.shape() == k.shape(), kName, "q {} and k {} must have one shape [B,H,T,K]", q, k);
}

Tensor zero_state(const kernel::BlockLinearProblem& p, TensorOptions options) {
  return Tensor::zeros({p.batch, p.heads, p.width, p.value_width}, options);
}

Gradients backward(const kernel::BlockLinearProblem& p, const Saved& saved, const Tensor& upstream) {
  const Tensor &q = saved[0], &k = saved[1], &v = saved[2];
  const Tensor dy = matrix_rows(upstream);
  Tensor dq = empty_heads(p.batch, p.heads, p.positions, p.width, q.options());
  Tensor dk = empty_heads(p.batch, p.heads, p.positions, p.width, q.options());
  Tensor dv = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  Tensor state = zero_state(p, q.options()), dstate = zero_state(p, q.options());
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::BlockLinearBackward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_matrices<T>(q),
                                                    .k = head_matrices<T>(k),
                                                    .v = head_matrices<T>(v),
                                                    .dy = head_matrices<T>(dy),
                                                    .dq = head_matrices<T>(dq),
                                                    .dk = head_matrices<T>(dk),
                                                    .dv = head_matrices<T>(dv),
                                                    .state = state.data<T>(),
                                                    .dstate = dstate.data<T>()});
  });
  return {dq, dk, dv};
}

}  // namespace

Tensor block_linear_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t block) {
  check(q, k, v, block);
  if (is_half(q.dtype())) {
    const auto wide = [](const Tensor& x) { return cast(x, DType::f32); };
    return cast(block_linear_attention(wide(q), wide(k), wide(v), block), q.dtype());
  }
  const kernel::BlockLinearProblem p{.batch = q.size(0),
                                     .heads = q.size(1),
                                     .positions = q.size(2),
                                     .width = q.size(3),
                                     .value_width = v.size(3),
                                     .block = block};
  const Tensor queries = matrix_rows(q), keys = matrix_rows(k), values = matrix_rows(v);
  Tensor y = empty_heads(p.batch, p.heads, p.positions, p.value_width, q.options());
  if (y.numel() == 0) return y;
  Tensor state = zero_state(p, q.options());
  visit_float(q.dtype(), kName, [&]<class T>() {
    using Kernel = kernel::BlockLinearForward;
    launch<Kernel>(q.device(), Kernel::Arguments<T>{.problem = p,
                                                    .q = head_matrices<T>(queries),
                                                    .k = head_matrices<T>(keys),
                                                    .v = head_matrices<T>(values),
                                                    .y = head_matrices<T>(y),
                                                    .state = state.data<T>()});
  });
  return record(kName, {q, k, v}, y, {queries, keys, values},
                [p](const Saved& saved, const Tensor& dy) { return backward(p, saved, dy); });
}

}  // namespace sq
